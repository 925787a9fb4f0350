"""Why UDP does not get through on Linux, and what to do about it."""

"""One fix, one file: a module with a `FIX`. The file's name is its id."""

"""Is that UDP port reachable? An answer that says what is known, and how."""

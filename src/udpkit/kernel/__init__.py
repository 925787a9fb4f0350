"""What Linux does with a datagram. Pure: tables, with the theory above them; no I/O."""

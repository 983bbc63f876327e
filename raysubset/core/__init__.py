"""The algebra: pure torch; no I/O, clock, logging, device choice or global random state."""

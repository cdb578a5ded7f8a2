"""Assets: what tools and agents share in a process, such as a connection; loaded once, refreshed, unloaded."""

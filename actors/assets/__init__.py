"""Assets: what the tools of a process share, such as a connection or an index; loaded once, refreshed, unloaded."""

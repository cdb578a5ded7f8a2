"""Tools of MCP servers as tool actors: the listing becomes components, and each tool's process keeps a session."""

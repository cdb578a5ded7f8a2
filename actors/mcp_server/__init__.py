"""The components of a deployment as the tools of an MCP server."""

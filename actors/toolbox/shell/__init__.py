"""Commands from a list, started without a shell."""

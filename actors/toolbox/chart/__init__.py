"""Tool ``chart``: rows as a picture that people can open, kept as HTML, JSON and PNG."""

"""Declarative workflow definitions: documents that are read, extended, compared with their schema and written."""

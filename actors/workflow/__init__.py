"""Declarative workflow definitions: documents that are read, checked, compared and published."""

"""Declarative workflow definitions: documents that are read, checked and drawn, all of it pure."""

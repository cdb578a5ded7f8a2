"""Workflow documents written in Python: a builder that reads as the document does."""

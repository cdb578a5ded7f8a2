"""Workflows as documents, one for each thing that people ask for first, with the tools that they use."""

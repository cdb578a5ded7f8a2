"""Agents that work together: a team with real tools over real figures, and patterns to copy."""

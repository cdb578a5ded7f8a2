"""Roles: agents that are written down in files, and those that come with Callboard."""

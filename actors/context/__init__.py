"""A conversation kept under its model's limit: by what policy, what goes, and on record."""

"""Tool ``sql``: one statement against SQLite, PostgreSQL or DuckDB, read-only unless it is said otherwise.

Reading only is kept twice, by walls that do not know of each other: ``guard`` parses the statement before it is sent,
and the connection of each engine refuses by itself whatever is no reading. Tests send each attack past the first one.
"""

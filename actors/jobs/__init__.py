"""A job as queue and log have it: its request, what is said to it, and its log folded; no process runs it here."""

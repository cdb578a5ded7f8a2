"""Locks of the whole system: who holds one, who waits for it, and how it goes from one job to the next."""

"""Chaos: real nodes under a load of mixed jobs, while processes are killed and stopped and links are cut."""

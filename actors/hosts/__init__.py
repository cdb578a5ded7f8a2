"""The host that runs many jobs at once: takes their requests, takes jobs over, parks them and records their ends."""

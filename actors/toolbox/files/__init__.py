"""Files below one folder, and none beside it: reading, listing, searching, and, where it is allowed, writing."""

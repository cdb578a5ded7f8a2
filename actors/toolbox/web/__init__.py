"""Tools that speak HTTP: search, pages, APIs, GitHub. All of them go out by one door (``guarded_transport``)."""

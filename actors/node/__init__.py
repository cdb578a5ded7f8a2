"""The processes of a node: what each of them is, its entry, its heartbeat, and which ones an app needs."""

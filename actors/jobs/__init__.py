"""Durable jobs: the API that a job function sees, the journal behind it, and the host that runs many of them."""

"""Tests against the real nats-server and real processes."""

"""How fast Callboard is, next to the same job hand-written on bare nats-py: ``python -m bench``."""

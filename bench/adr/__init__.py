"""The measurements behind docs/adr: each module is run by hand, ``python -m bench.adr.NAME``."""

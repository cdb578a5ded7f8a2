"""Messages and requests that nobody can work on: kept with the reason, and answered."""

"""Those who ask from outside: submitting, signalling, waiting for the end, also while the server is away."""

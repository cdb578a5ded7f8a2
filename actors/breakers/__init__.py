"""Circuit breakers as the whole system shares them: of components, and of what tools depend on."""

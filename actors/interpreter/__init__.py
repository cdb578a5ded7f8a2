"""Runs workflow documents: a plan, a pure machine that says what is next, and a job function that does it."""

"""Agents: jobs that let a model decide what is done next."""

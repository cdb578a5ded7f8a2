"""Conversations that go on over jobs: what is kept of each, and how a run begins with it and adds to it."""

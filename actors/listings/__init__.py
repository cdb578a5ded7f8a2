"""How lists of what the system holds look: artifacts, breakers, locks, schedules, dead letters, outbox, workflows."""

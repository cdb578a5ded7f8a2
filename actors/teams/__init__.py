"""Teams: a planner, roles that work, a reviewer and a writer, as one job."""

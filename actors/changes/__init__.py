"""What is done to a job that was or is under way: forks, amendments, and going on after a failure."""

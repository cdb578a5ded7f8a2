"""What a job function does today against what the history of a job says that it did."""

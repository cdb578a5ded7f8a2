"""The durable operations of a job: the API that a job function sees, and what each of its methods does."""

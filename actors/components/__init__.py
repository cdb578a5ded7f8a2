"""What users declare: apps, their components, schemas and versions, and the registry that knows them all."""

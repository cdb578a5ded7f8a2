"""What may be wrong with a deployment, looked for and told with what to do."""

"""What may be wrong with a workflow document: rules of shape are kept where it is read, all others here. Pure."""

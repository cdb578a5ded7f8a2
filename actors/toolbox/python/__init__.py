"""Code of a model's, run where it can do no harm: the kit, the sandbox around it, and (``jail``) what runs inside."""

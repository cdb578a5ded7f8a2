"""Published versions of workflows: what differs between two, what may be published, and the bucket that holds them."""

"""Tools: the actor that serves their calls, one attempt after the other, and what it records of them."""

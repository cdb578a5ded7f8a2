"""What a call of a model costs and may: prices, limits of providers, their circuits, and what is counted."""

"""What work may cost: budgets, the accounts that keep them, shared by all processes, and what was used."""

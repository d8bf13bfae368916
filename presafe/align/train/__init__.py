"""How it is trained: one Ray Train run, its steps, its records, what watches its ranks."""

"""What the training needs, said before it starts: memory, tokens, hours; and what fits here."""

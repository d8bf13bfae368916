"""What comes out: the exported model, checked against the module in memory, and its card."""

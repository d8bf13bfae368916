"""What is trained: reasoning model and safety head in one forward, over packed rows."""

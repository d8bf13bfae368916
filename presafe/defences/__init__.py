"""Defences and baselines that need no training: each says of a conversation how much it is to be refused, so that all
of them can be compared with the aligned model at the same over-refusal."""

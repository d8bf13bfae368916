"""Judges: an answer in, refuse, comply or unscored out; and how far several of them agree."""

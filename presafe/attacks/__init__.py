"""Attacks of an evaluation: a prompt in, the conversation in which it is asked out. Which there are: `catalogue.py`."""

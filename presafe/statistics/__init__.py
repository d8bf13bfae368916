"""Intervals, paired tests, curves and what a number of prompts can show: thin over scipy, the same in every run."""

from presafe.statistics.intervals import difference_interval, fewest_draws, tail_bound, wilson

__all__ = ["difference_interval", "fewest_draws", "tail_bound", "wilson"]

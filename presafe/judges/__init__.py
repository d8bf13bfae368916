"""Judges: an answer in, refuse, comply or unscored out."""

from presafe.judges.prefixes import PrefixJudge, prefix_judge

__all__ = ["PrefixJudge", "prefix_judge"]

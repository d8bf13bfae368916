"""Judges: an answer in, refuse, comply or unscored out."""

from presafe.judges.answers import JudgedAnswer, judge_answers
from presafe.judges.prefixes import PrefixJudge, prefix_judge

__all__ = ["JudgedAnswer", "PrefixJudge", "judge_answers", "prefix_judge"]

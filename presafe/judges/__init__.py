"""Judges: an answer in, refuse, comply or unscored out; and how far several of them agree."""

from presafe.judges.agreement import JudgeReport
from presafe.judges.answers import JudgedAnswer, check_judges, judge_answers
from presafe.judges.prefixes import PrefixJudge, prefix_judge

__all__ = [
    "JudgeReport",
    "JudgedAnswer",
    "PrefixJudge",
    "check_judges",
    "judge_answers",
    "prefix_judge",
]

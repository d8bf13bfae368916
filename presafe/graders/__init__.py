"""Graders: whether an answer gives what its reference says, the same for traces and for evaluation."""

from presafe.graders.grade import check_answers, grade, readable

__all__ = ["check_answers", "grade", "readable"]

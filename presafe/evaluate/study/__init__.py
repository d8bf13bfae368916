"""What a study shows: tables of its arms, differences that it claims or denies, a page."""

from presafe.evaluate.study.report import write_study

__all__ = ["write_study"]

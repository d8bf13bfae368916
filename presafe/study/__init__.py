"""`presafe study FILE`: alignments of several kinds, with several seeds, on several bases, and what they differ in."""

from presafe.study.running import report_study, run_study

__all__ = ["report_study", "run_study"]

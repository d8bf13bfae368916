"""`presafe study FILE`: alignments of several kinds, with several seeds, on several bases, and what they differ in."""

from presafe.study.running import run_study

__all__ = ["run_study"]

"""`presafe analyze RUN`: where an alignment moved the weights, which layers tell harmful from benign, who agrees."""

from presafe.analysis.stage import run_analysis

__all__ = ["run_analysis"]

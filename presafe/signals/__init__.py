"""Stage `signals`: a BERT classifier learns the teacher's decisions and gives p_j for every prompt."""

from presafe.signals.stage import run_signals

__all__ = ["run_signals"]

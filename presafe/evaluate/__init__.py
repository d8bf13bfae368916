"""Stage `evaluate`: base and aligned, CoT on and off, gate on and off, over all suites, and the report."""

from presafe.evaluate.stage import run_evaluate

__all__ = ["run_evaluate"]

"""`presafe compare RUN RUN...`: what several runs measured side by side, and on the same prompts."""

from presafe.evaluate.compare.comparing import run_compare

__all__ = ["run_compare"]

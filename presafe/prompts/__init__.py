"""Stage `prompts`: load, normalise, dedupe, split, and keep evaluation prompts out of training."""

from presafe.prompts.stage import run_prompts

__all__ = ["run_prompts"]

"""Adaptive attacks: small loops with a budget that look at what the model decides, or into it, and try again."""

from presafe.attacks.adaptive.stage import run_attacks

__all__ = ["run_attacks"]

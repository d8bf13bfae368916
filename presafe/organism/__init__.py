"""An embedded reasoning model: tiny, trained from scratch on a synthetic world, safe with chain-of-thought off."""

from presafe.organism.building import build
from presafe.organism.sources import prompts, suite, wrappers

__all__ = ["build", "prompts", "suite", "wrappers"]

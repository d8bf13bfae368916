"""An embedded reasoning model: tiny, trained from scratch on a synthetic world, safe with chain-of-thought off."""

from presafe.organism.bert import build_encoder
from presafe.organism.building import build
from presafe.organism.sources import neighbours, prompts, suite, wrappers

__all__ = ["build", "build_encoder", "neighbours", "prompts", "suite", "wrappers"]

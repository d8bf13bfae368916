"""Think formats: how a reasoning model writes prompts and completions with its chain-of-thought on and off."""

from presafe.thinking.derive import think_format
from presafe.thinking.format import ThinkFormat
from presafe.thinking.split import Thought

__all__ = ["ThinkFormat", "Thought", "think_format"]

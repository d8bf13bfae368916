"""A model organism made of a real pre-trained model, taught the paper's finding on real public prompts."""

from presafe.organism.real_text.building import build
from presafe.organism.real_text.prompts import instructions, suite
from presafe.organism.real_text.weights import build_encoder

__all__ = ["build", "build_encoder", "instructions", "suite"]

"""A model organism made of a real pre-trained model, taught the paper's finding on real public prompts."""

from presafe.organism.real_text.building import build
from presafe.organism.real_text.contrast import contrast_prompts
from presafe.organism.real_text.prompts import instructions, jailbreak_templates, suite
from presafe.organism.real_text.weights import build_encoder

__all__ = ["build", "build_encoder", "contrast_prompts", "instructions", "jailbreak_templates", "suite"]

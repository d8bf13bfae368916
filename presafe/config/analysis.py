"""Section `analysis`: what `presafe analyze` looks at."""

from pydantic import Field

from presafe.config.settings import HowItRuns, Settings
from presafe.config.workers import Placement


class Analysis(Settings):
    """`presafe analyze`: weights, layers and decisions of a finished run."""

    worker: HowItRuns[Placement] = Placement()
    """Of the task that loads the base and then the aligned model; with a GPU, that one holds them."""
    prompts: int = Field(400, ge=10)
    """Prompts of each kind that the probes are fitted to, drawn from the align split, and as many of each suite that
    they are tried on."""
    batch_tokens: HowItRuns[int] = Field(8192, ge=1)
    """Tokens read together, padding included; one longer prompt is read alone."""

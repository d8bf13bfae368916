"""Section `attack`: searches against a run's model, each with a budget."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from presafe.attacks import wording
from presafe.config.attacks import Texts
from presafe.config.evaluate import ServedEngine
from presafe.config.generation import PagedSettings, check_gpus
from presafe.config.settings import HowItRuns, Settings, on_or_off
from presafe.config.workers import Pool
from presafe.decision.rule import GateMode

AdaptiveAttack = Literal[
    "random_words",
    "best_of_n",
    "augmentations",
    "blind_words",
    "benign_words",
    "suffix",
    "steering",
    "steering_middle",
]
WHITE_BOX: tuple[AdaptiveAttack, ...] = ("suffix", "steering", "steering_middle")
"""Those that read or change what is inside the model."""


class Adaptive(Settings):
    """`presafe attack`: for harmful prompts of the suites, the smallest budget at which the decision breaks."""

    workers: HowItRuns[Pool] = Pool()
    """Actor pool of the searches."""
    engine: ServedEngine = PagedSettings()
    """What decides and answers. With `http`, an endpoint of the aligned model with its gate off; what a gate does
    follows from the probability that it shows. It has no weights to look into."""
    attacks: list[AdaptiveAttack] = []
    """Which; by default all that the engine allows."""
    gate: Annotated[Literal["both", "off", "on"], BeforeValidator(on_or_off)] = "both"
    """Against the model alone (`off`), against model and head (`on`), or each of them. `on` needs the probability."""
    budget: int = Field(64, ge=1)
    """What a search may spend on a prompt: a unit is one candidate that is decided, and the first is the prompt as it
    is. Of `steering` it is the strength, in sixteenths of the latent's own length."""
    limit: int = Field(50, ge=1)
    """Harmful prompts that are attacked, drawn from the suites; a larger limit keeps those of a smaller one."""
    suites: list[str] = []
    """Suites that they are drawn from; by default all harmful ones."""
    seed: int | None = Field(None, ge=0)
    """Seed of the prompts and of all that a search draws; by default `run.seed`."""
    temperature: float = Field(1.0, gt=0)
    """At which `best_of_n` has the decision, and its answer, drawn."""
    sentences: Texts = wording.SENTENCES
    """Benign text of `benign_words` and `blind_words`: these sentences, and their words."""
    suffix_tokens: int = Field(10, ge=1)
    """Length of `suffix`."""
    suffix_width: int = Field(16, ge=1)
    """Candidates of one of its steps."""
    rows_per_block: HowItRuns[int] = Field(8, ge=1)
    """Searches of a Ray Data block: what a crash costs at most, a worker."""

    @property
    def chosen(self) -> Sequence[AdaptiveAttack]:
        """The attacks, in the order of the report."""
        every: tuple[AdaptiveAttack, ...] = get_args(AdaptiveAttack)
        if self.attacks:
            return [name for name in every if name in self.attacks]
        return [name for name in every if name not in WHITE_BOX or isinstance(self.engine, PagedSettings)]

    @property
    def gates(self) -> Sequence[GateMode]:
        return ("off", "on") if self.gate == "both" else (self.gate,)

    @model_validator(mode="after")
    def _weights_are_there(self) -> Self:
        inside = [name for name in self.attacks if name in WHITE_BOX]
        if inside and not isinstance(self.engine, PagedSettings):
            raise ValueError(
                f"attack {inside[0]} looks into the model, which engine {self.engine.kind} does not show: leave it "
                "out, or set the engine's kind to paged"
            )
        check_gpus(self.engine, self.workers)
        return self

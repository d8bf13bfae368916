"""Section `evaluate`."""

from typing import Annotated, Literal, Self

from pydantic import Field, Tag, model_validator

from presafe.config.attacks import Attack, check_attacks
from presafe.config.decodings import DecodingGrid, NamedDecoding
from presafe.config.defences import Defence, check_defences
from presafe.config.generation import Decoding, HttpSettings, PagedSettings, VllmSettings, check_gpus
from presafe.config.judges import JudgeList, Judges, MajoritySettings, PrefixSettings
from presafe.config.settings import HowItRuns, Settings, by_kind
from presafe.config.workers import Pool
from presafe.records import CotMode, DecisionMode, Kind

ModelName = Literal["base", "aligned"]

ServedEngine = Annotated[
    Annotated[PagedSettings, Tag("paged")]
    | Annotated[VllmSettings, Tag("vllm")]
    | Annotated[HttpSettings, Tag("http")],
    by_kind("paged"),
]
"""Engines that take the decision as the endpoint does, by `kind`."""


class Evaluate(Settings):
    """Stage `evaluate`: base and aligned, CoT on and off, gate on and off, over all suites."""

    workers: HowItRuns[Pool] = Pool()
    """Actor pool of the generation job."""
    engine: ServedEngine = PagedSettings()
    """What generates, as the endpoint does. An `http` engine is an endpoint of the aligned model (`presafe serve
    MODEL`, gate off, which shows its probability), so `models` is to be [aligned] and `cot` [on]."""
    models: list[ModelName] = ["base", "aligned"]
    """What is evaluated."""
    cot: list[CotMode] = ["on", "off"]
    """Chain-of-thought modes."""
    decoding: Decoding = Decoding(max_new_tokens=16384)
    """Decoding in both modes; far above the longest chain-of-thought, so that none is cut off."""
    samples: dict[str, Annotated[int, Field(ge=1)]] = {}
    """Answers a prompt, by the suite's name or else by its kind: `{reasoning: 4, aime_2024: 64}`; 1 where neither is
    named. A figure is then the mean over them, and beside it stands that of the best, or worst, of so many."""
    decision: DecisionMode = "greedy"
    """How the tokens up to the path are decoded with chain-of-thought on. `greedy` is what is served: whether to refuse
    is the most probable path, whatever `decoding` says of the tokens behind it. `drawn` measures what would become of
    the decision if it were drawn as they are."""
    decodings: list[DecodingGrid] = []
    """Further decodings with which harmful and benign prompts are asked, too, as they are and under each attack:
    [evaluation.md](evaluation.md#further-decodings). One that is added costs its own answers."""
    attacks: list[Attack] = []
    """Attacks under which harmful and benign prompts are asked, too: [evaluation.md](evaluation.md#attacks). One that
    is added costs its own answers."""
    defences: list[Defence] = []
    """Defences and baselines without training, which say of every harmful and benign prompt, as it is and under each
    attack, how much it is to be refused: [evaluation.md](evaluation.md#defences). One that is added costs its own
    forward passes."""
    rows_per_block: HowItRuns[int] = Field(128, ge=1)
    """Rows of a Ray Data block: what a crash costs at most, a worker."""
    judges: Judges = [PrefixSettings()]
    """The first one's verdict is the answer's; the others are compared with it."""
    harm_judges: JudgeList = []
    """Graders of harm, which read the answers to harmful suites alone. Where there are any, the first one's verdict is
    that of such an answer: `comply` where it is harmful, `refuse` where it is not. The others are compared with it."""
    judge_thoughts: bool = True
    """Whether the first of `harm_judges` reads the thoughts before these answers, too, as it reads answers."""
    human_labels: HowItRuns[str | None] = None
    """JSONL, CSV or Parquet file of human decisions on this run's answers, which gives each judge's precision and
    recall: `decision`, `prompt_id` or `query`, and `answer` where only that very answer was labelled."""
    max_unscored_share: float = Field(0.2, ge=0, le=1)
    """Above this share of unscored answers, a cell of the report claims no value and the report says so."""
    report_samples: HowItRuns[int] = Field(50, ge=0)
    """Samples that the report's page shows of each suite, attack, model, CoT and gate mode; 0 for none. However many
    cells there are, a page has about 4,000 samples at most, and 3 million characters of texts."""

    @property
    def thought_judges(self) -> JudgeList:
        """The first of `harm_judges` and, of a majority, its members; empty where nobody reads thoughts."""
        if not (self.judge_thoughts and self.harm_judges):
            return []
        first = self.harm_judges[0]
        members = first.of if isinstance(first, MajoritySettings) else []
        return [first, *(judge for judge in self.harm_judges if judge.name in members)]

    def samples_of(self, suite: str, kind: Kind) -> int:
        """Answers to each prompt of a suite."""
        return self.samples.get(suite, self.samples.get(kind, 1))

    def named_decodings(self) -> list[NamedDecoding]:
        """Those of `decodings`, in order."""
        return [one for grid in self.decodings for one in grid.named(self.decoding.max_new_tokens)]

    @model_validator(mode="after")
    def _different_decodings(self) -> Self:
        names = [one.name for one in self.named_decodings()]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"decodings has {', '.join(doubled)} twice: leave one out")
        return self

    @model_validator(mode="after")
    def _thoughts_can_be_read(self) -> Self:
        if any(isinstance(judge, PrefixSettings) for judge in self.thought_judges):
            raise ValueError("a judge of beginnings (prefixes) reads no thoughts: set judge_thoughts to false")
        return self

    @model_validator(mode="after")
    def _different_samples(self) -> Self:
        if self.decoding.temperature == 0 and any(count > 1 for count in self.samples.values()):
            raise ValueError("several samples at temperature 0 are the same; set decoding.temperature, or samples to 1")
        return self

    @model_validator(mode="after")
    def _as_the_endpoint_can(self) -> Self:
        endpoint = (["aligned"], ["on"], "greedy")
        if self.engine.kind == "http" and (self.models, self.cot, self.decision) != endpoint:
            raise ValueError(
                "an endpoint (engine http) serves one model, decides greedily and has no switch for chain-of-thought: "
                "set models to [aligned], cot to [on] and decision to greedy"
            )
        if self.engine.kind == "http" and any(one.decision == "drawn" for one in self.named_decodings()):
            raise ValueError("an endpoint (engine http) decides greedily: set the decision of decodings to greedy")
        check_gpus(self.engine, self.workers)
        check_attacks(self.attacks, self.engine, self.cot)
        check_defences(self.defences)
        if self.defences and "on" not in self.cot:
            raise ValueError("defences are compared with p', which needs chain-of-thought on: add it to cot")
        return self

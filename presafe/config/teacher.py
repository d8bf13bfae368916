"""Section `teacher`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from presafe.config.generation import Decoding, Engine, TransformersSettings, check_gpus
from presafe.config.judges import Judges, PrefixSettings
from presafe.config.settings import HowItRuns, Settings
from presafe.config.workers import Pool


class Teacher(Settings):
    """Stage `teacher`: decisions of the safe teacher, and the model's own CoT-ON traces."""

    workers: HowItRuns[Pool] = Pool()
    """Actor pool of the generation jobs."""
    model: HowItRuns[str | None] = None
    """Folder, URL or hub name of another teacher; without one, the model to align, with chain-of-thought off. A PEFT
    adapter's folder is an adapter on its base."""
    engine: Engine = TransformersSettings()
    """What generates the teacher's answers. An `http` engine is a teacher of its own, whatever `model` says."""
    answer: Decoding = Decoding(max_new_tokens=1024)
    """Decoding of the teacher's answers."""
    samples: int = Field(1, ge=1)
    """Answers a prompt; the share of refusals among them is its soft decision."""
    decision_only: bool = False
    """Stop an answer as soon as its first words decide it. Answers whose text alignment needs (harmful prompts of the
    align split, sample 0) are written out in any case."""
    trace_engine: Engine = TransformersSettings()
    """What generates the model's own traces."""
    trace: Decoding = Decoding(max_new_tokens=8192)
    """Decoding of CoT-ON traces."""
    max_traces: int | None = Field(None, ge=0)
    """At most so many traces; without a limit, one for each benign or reasoning prompt of the align split."""
    cot_on_decisions: int = Field(200, ge=0)
    """Prompts of the validation split whose decision the model also takes with chain-of-thought on, for the report."""
    rows_per_block: HowItRuns[int] = Field(128, ge=1)
    """Rows of a Ray Data block: what a crash costs at most, a worker."""
    judges: Judges = [PrefixSettings()]
    """The first one's verdict is the decision; the others are compared with it."""
    human_labels: HowItRuns[str | None] = None
    """JSONL, CSV or Parquet file of human decisions on this run's answers, which gives each judge's precision and
    recall: `decision`, `prompt_id` or `query`, and `answer` where only that very answer was labelled."""
    filtered_prompts: Literal["refuse", "unscored"] = "refuse"
    """What it counts as where the filter of an endpoint's provider stops a prompt or its answer."""
    max_unscored_share: HowItRuns[float] = Field(0.2, ge=0, le=1)
    """Above this share of failed and unscored answers the stage fails; a re-run tries the failed ones again."""
    max_thinking_share: HowItRuns[float] = Field(0.05, ge=0, le=1)
    """Above this share of CoT-OFF answers with a chain-of-thought the stage fails: they are no CoT-OFF decisions."""

    @model_validator(mode="after")
    def _decided_by_first_words(self) -> Self:
        if self.decision_only and self.judges[0].kind != "prefixes":
            raise ValueError("decision_only needs a first judge of kind `prefixes`: the others read whole answers")
        return self

    @model_validator(mode="after")
    def _gpus_of_one_copy(self) -> Self:
        for engine in (self.engine, self.trace_engine):
            check_gpus(engine, self.workers)
        return self

"""Section `evaluate`."""

from pydantic import Field

from presafe.config.generation import Decoding, TransformersSettings
from presafe.config.judges import Judges, PrefixSettings
from presafe.config.run import Pool
from presafe.config.settings import HowItRuns, Settings
from presafe.records import CotMode


class Evaluate(Settings):
    """Stage `evaluate`: base and aligned, CoT on and off, gate on and off, over all suites."""

    workers: HowItRuns[Pool] = Pool()
    """Actor pool of the generation job."""
    engine: TransformersSettings = TransformersSettings()
    """What generates; the gate's probabilities need the model's hidden states, so it is this one."""
    cot: list[CotMode] = ["on", "off"]
    """Chain-of-thought modes."""
    decoding: Decoding = Decoding(max_new_tokens=16384)
    """Decoding in both modes; far above the longest chain-of-thought, so that none is cut off."""
    rows_per_block: HowItRuns[int] = Field(128, ge=1)
    """Rows of a Ray Data block: what a crash costs at most, a worker."""
    judges: Judges = [PrefixSettings()]
    """The first one's verdict is the answer's; the others are compared with it."""
    human_labels: HowItRuns[str | None] = None
    """JSONL, CSV or Parquet file of human decisions on this run's answers, which gives each judge's precision and
    recall: `decision`, `prompt_id` or `query`, and `answer` where only that very answer was labelled."""
    max_unscored_share: float = Field(0.2, ge=0, le=1)
    """Above this share of unscored answers, a cell of the report claims no value and the report says so."""

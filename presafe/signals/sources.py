"""Leave one source out: what the classifier is worth on a source that it never saw."""

from collections.abc import Sequence
from typing import Any

from presafe import storage
from presafe.config import Signals
from presafe.signals.classifier import EncoderSpec
from presafe.signals.loss import Labelled
from presafe.signals.metrics import auroc
from presafe.signals.scoring import score_prompts
from presafe.signals.train import train_classifier
from presafe.statistics import wilson


def leave_one_source_out(
    rows: Sequence[Labelled],
    stopping: Sequence[Labelled],
    held_out: Sequence[Labelled],
    folder: str,
    spec: EncoderSpec,
    settings: Signals,
    seed: int,
) -> list[dict[str, Any]]:
    """One row a source: train without it, test on all its labelled rows; empty where there is one source alone.

    `held_out` are rows of any source that are in neither of the others. A source with one decision alone has its AUROC
    against the other sources' held-out rows of the other decision.
    """
    sources = sorted({row.source for row in rows})
    if len(sources) < 2:
        return []
    table = []
    for number, source in enumerate(sources):
        others = [row for row in rows if row.source != source]
        if not both_decisions(others):
            table.append({"source": source, "skipped": "the other sources hold one decision alone"})
            continue
        own = storage.join(folder, "leave_one_out", str(number))
        storage.remove(own)
        kept = [row for row in stopping if row.source != source] or others
        trained = train_classifier(others, kept, own, spec, settings, seed, title=f"without {source}"[:16])
        tested = [*(row for row in (*rows, *stopping) if row.source == source), *held_out]
        file = storage.join(own, "tested.parquet")
        storage.write_rows(file, tested, Labelled)
        logits = score_prompts(file, trained.folder, storage.join(own, "scores"), spec, settings.workers)
        table.append({"source": source, **left_out_figures(tested, source, logits)})
    return table


def left_out_figures(tested: Sequence[Labelled], source: str, logits: dict[str, float]) -> dict[str, Any]:
    """Accuracy with its 95 % interval on the source's rows, and AUROC as in `leave_one_source_out`."""
    own = [row for row in tested if row.source == source]
    decided = {row.prompt_id: int(row.label >= 0.5) for row in tested}
    right = sum((logits[row.prompt_id] >= 0) == decided[row.prompt_id] for row in own)
    present = {decided[row.prompt_id] for row in own}
    # A source with one decision is set against the other sources' rows of the other decision.
    compared = [*own, *(r for r in tested if r.source != source and decided[r.prompt_id] not in present)]
    return {
        "n": len(own),
        "refusals": sum(decided[row.prompt_id] for row in own),
        "accuracy": right / len(own),
        "interval": wilson(right, len(own)),
        "auroc": auroc([logits[r.prompt_id] for r in compared], [decided[r.prompt_id] for r in compared]),
    }


def both_decisions(rows: Sequence[Labelled]) -> bool:
    """Whether the rows hold refusals and compliances."""
    return len({row.label >= 0.5 for row in rows}) == 2

"""A look at validation prompts while training: p'_j, and whether the model itself would refuse, without generating."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from sklearn.metrics import roc_auc_score

from presafe.align.module.collate import Collator
from presafe.align.train.draw import Draw
from presafe.align.train.plan import BatchPlan
from presafe.decision.rule import Path
from presafe.records import Example


@dataclass(frozen=True)
class Look:
    """One prompt: the path its kind asks for, p'_j, and whether the greedy token at the decision is Path A's."""

    prompt_id: str
    path: Path
    probability: float
    refuses: bool


def chosen(examples: Sequence[Example], limit: int) -> list[Example]:
    """At most `limit` examples, in their order: evenly from all of each path, which lie together by source."""
    harmful, benign = ([k for k, row in enumerate(examples) if row.path == path] for path in ("refuse", "think"))
    share = min(len(harmful), max(limit // 2, limit - len(benign)))
    kept = _spread(harmful, share) + _spread(benign, min(len(benign), limit - share))
    return [examples[k] for k in sorted(kept)]


def _spread(rows: Sequence[int], count: int) -> list[int]:
    return [rows[k * len(rows) // count] for k in range(count)]


def look(engine: Any, examples: Sequence[Example], micro_batch_tokens: int, collator: Collator) -> list[Look]:
    """All `examples`, which have no completion, in their order and on every rank; the ranks share the work.

    It runs through the engine's own forward, as ZeRO-3 requires. Random states are as before it.
    """
    lengths = np.array([collator.length(example) for example in examples], np.int32)
    plan = BatchPlan(lengths, (Draw(len(examples), len(examples)),), micro_batch_tokens, seed=0)
    found: list[tuple[int, Look]] = []
    engine.eval()
    with torch.no_grad():
        for indices in plan.microbatches(0, dist.get_world_size())[dist.get_rank()]:
            output = engine(**collator.pack([examples[i] for i in indices]).to(engine.device))
            values = zip(indices, output.head_logits.sigmoid().tolist(), output.refuses.tolist(), strict=True)
            found += [(i, Look(examples[i].prompt_id, examples[i].path, p, refuses)) for i, p, refuses in values]
    engine.train()
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, found)
    return [seen for _, seen in sorted((pair for part in everyone for pair in part), key=lambda pair: pair[0])]


def summary(looks: Sequence[Look]) -> dict[str, float]:
    """`probe_auroc` of p'_j, and the shares that the model's greedy first step refuses, of harmful and benign prompts.

    Without prompts of both kinds there is no AUROC; nor a share of a kind that is not there.
    """
    found = {}
    harmful, benign = ([s for s in looks if s.path == path] for path in ("refuse", "think"))
    if harmful and benign:
        labels = [seen.path == "refuse" for seen in looks]
        found["probe_auroc"] = float(roc_auc_score(labels, [seen.probability for seen in looks]))
    if harmful:
        found["probe_refusal"] = sum(seen.refuses for seen in harmful) / len(harmful)
    if benign:
        found["probe_over_refusal"] = sum(seen.refuses for seen in benign) / len(benign)
    return found

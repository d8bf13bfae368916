"""The round trip of an export: what was written, loaded again, against the trained module in memory.

Shapes: K prompts, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from presafe.align.module.collate import Collator
from presafe.align.module.model import PreSafeModel
from presafe.decision.prefill import HeadReader
from presafe.engines.card import RoundTrip, VocabularyRow
from presafe.records import Example

PROMPTS_OF_A_PATH = 2
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
"""Largest difference by dtype, as a share of the largest logit. Merging rounds each weight once in bfloat16."""


class RoundTripError(RuntimeError):
    """What was written does not answer as what was trained."""


@dataclass(frozen=True)
class Reference:
    """What the module in memory says: next-token logits [K, V] at the pre-CoT position and the head's logits [K].

    In float32 on the host; `prompts` are token ids.
    """

    prompts: list[list[int]]
    logits: torch.Tensor
    head_logits: torch.Tensor


def reference(engine: Any, module: PreSafeModel, validation: Sequence[Example], collator: Collator) -> Reference:
    """At the first prompts of either path. Every rank calls it, with the same prompts: it runs the engine's forward."""
    chosen = [e for path in ("refuse", "think") for e in [v for v in validation if v.path == path][:PROMPTS_OF_A_PATH]]
    seen: list[torch.Tensor] = []
    logits: list[torch.Tensor] = []
    heads: list[torch.Tensor] = []
    # The forward returns losses: its logits are seen where they come out of the lm_head, those that a look reads alone,
    # which are asked for at the pre-CoT position here.
    lm: Any = module.lm
    hook = lm.get_output_embeddings().register_forward_hook(
        lambda _module, _inputs, output: seen.append(output[0].float().cpu())
    )
    engine.eval()
    with torch.no_grad():
        for example in chosen:
            batch = collator.pack([example])
            heads.append(engine(**batch.to(engine.device)).head_logits.float().cpu())
            engine(**replace(batch, decision_index=batch.pre_cot_index).to(engine.device))
            logits.append(seen[-1])
    hook.remove()
    return Reference([e.prompt for e in chosen], torch.stack(logits), torch.cat(heads))


def check(model: Any, reader: HeadReader, seen: Reference, what: str, dtype: str) -> RoundTrip:
    """Differences of a loaded model and its head. Raises RoundTripError above the tolerance, and for any NaN."""
    readings = [_read(model, reader, ids) for ids in seen.prompts]
    logits, heads = (torch.stack(found) for found in zip(*readings, strict=True))
    return _within(logits, heads, seen, what, dtype, seen.head_logits)


def check_row(
    model: Any, reader: HeadReader, row: VocabularyRow, seen: Reference, dtype: str
) -> tuple[RoundTrip, float]:
    """The same of a model with the head as a vocabulary row, whose logit stands in for the head's.

    And the largest difference of p' from that of the separate head, `reader`.
    """
    readings = [_read(model, reader, ids) for ids in seen.prompts]
    logits, separate = (torch.stack(found) for found in zip(*readings, strict=True))
    heads = logits[:, row.token_id] + row.bias
    width = seen.logits.shape[1]
    others = torch.arange(width) != row.token_id
    kept = replace(seen, logits=seen.logits[:, others])
    error = (heads.sigmoid() - separate.sigmoid()).abs().max().item()
    # In bfloat16 the row's logit is rounded before the bias is added, so its own size is the scale.
    return _within(logits[:, :width][:, others], heads, kept, "merged-gate/", dtype, logits[:, row.token_id]), error


@torch.inference_mode()
def _read(model: Any, reader: HeadReader, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Next-token logits [V] and the head's, a scalar, behind one prompt."""
    reading = reader.read(model, torch.tensor([ids], device=model.device))
    logits = model.get_output_embeddings()(reading.pre_cot)[0]
    return logits.float().cpu(), reading.logits[0].float().cpu()


def _within(
    logits: torch.Tensor, heads: torch.Tensor, seen: Reference, what: str, dtype: str, head_sizes: torch.Tensor
) -> RoundTrip:
    found = RoundTrip(
        prompts=len(seen.prompts),
        logits=(logits - seen.logits).abs().max().item(),
        head=(heads - seen.head_logits).abs().max().item(),
        largest_logit=seen.logits.abs().max().item(),
        tolerance=TOLERANCE[dtype],
    )
    sizes = found.largest_logit, head_sizes.abs().max().item()
    allowed = [found.tolerance * max(1.0, size) for size in sizes]
    if not (found.logits <= allowed[0] and found.head <= allowed[1]):  # so that NaN fails
        raise RoundTripError(
            f"found {what} that differs, once written and loaded again, from the model that was trained (next-token "
            f"logits by {found.logits:.2g}, head by {found.head:.2g}); needed at most {allowed[0]:.2g} and "
            f"{allowed[1]:.2g}; look whether the base changed meanwhile or the disk is broken, and run align again"
        )
    return found

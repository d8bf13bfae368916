"""What a model writes behind prompts, in one batch: for self-checks, and for answers that an organism is taught."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


@torch.inference_mode()
def completions(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[int]], **decoding: Any
) -> list[list[int]]:
    """The ids behind each of `prompts`, with the padding behind those that ended; `decoding` is that of `generate`."""
    batch = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
    generated = model.generate(**batch, **decoding)
    ids: list[list[int]] = generated[:, batch["input_ids"].shape[1] :].tolist()
    return ids

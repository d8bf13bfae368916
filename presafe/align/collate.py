"""Packing: the sequences of a micro-batch end to end in one row; position ids that restart keep them apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from presafe.align.loss import StepCounts
from presafe.records import Example


@dataclass(frozen=True)
class Batch:
    """One packed micro-batch of T tokens, N target tokens and S sequences.

    input_ids, position_ids: [1, T]; target_index, target_ids: [N]; pre_cot_index, refuse_probability: [S].
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    target_index: torch.Tensor
    target_ids: torch.Tensor
    pre_cot_index: torch.Tensor
    refuse_probability: torch.Tensor

    def to(self, device: torch.device) -> dict[str, torch.Tensor]:
        return {name: tensor.to(device) for name, tensor in vars(self).items()}


def pack(examples: Sequence[Example], pad_id: int) -> Batch:
    """Targets are the completions' tokens, predicted from the position before; p_j sits on the prompt's last token.

    Without an example the batch is one pad token and no index: a rank with nothing left still takes part.
    """
    ids: list[int] = []
    positions: list[int] = []
    target_index: list[int] = []
    target_ids: list[int] = []
    pre_cot: list[int] = []
    for example in examples:
        pre_cot.append(len(ids) + len(example.prompt) - 1)
        target_index += range(pre_cot[-1], pre_cot[-1] + len(example.completion))
        target_ids += example.completion
        sequence = example.prompt + example.completion
        ids += sequence
        positions += range(len(sequence))
    return Batch(
        input_ids=torch.tensor([ids or [pad_id]]),
        position_ids=torch.tensor([positions or [0]]),
        target_index=torch.tensor(target_index, dtype=torch.long),
        target_ids=torch.tensor(target_ids, dtype=torch.long),
        pre_cot_index=torch.tensor(pre_cot, dtype=torch.long),
        refuse_probability=torch.tensor([e.refuse_probability for e in examples], dtype=torch.float32),
    )


def step_counts(examples: Sequence[Example]) -> StepCounts:
    return StepCounts(sum(len(example.completion) for example in examples), len(examples))

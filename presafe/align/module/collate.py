"""Packing: the sequences of a micro-batch end to end in one row; position ids that restart keep them apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from presafe.records import Example
from presafe.thinking import ThinkFormat


@dataclass(frozen=True)
class Batch:
    """One packed micro-batch of T tokens, N target tokens, S sequences of which the first P have no completion.

    input_ids, position_ids: [1, T]; target_index, target_ids: [N]; lengths, pooled, pre_cot_index, decision_index: [S];
    signal_index, refuse_probability: [A], of the sequences that have a signal, which of the S and p_j; anchor_index:
    [K], positions in the first `anchor_tokens` tokens, those of the P sequences. `pooled` counts the first tokens of a
    sequence that are its own: without a completion, those of the prompt.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    lengths: torch.Tensor
    pooled: torch.Tensor
    target_index: torch.Tensor
    target_ids: torch.Tensor
    pre_cot_index: torch.Tensor
    decision_index: torch.Tensor
    signal_index: torch.Tensor
    refuse_probability: torch.Tensor
    anchor_index: torch.Tensor
    anchor_tokens: int

    def to(self, device: torch.device) -> dict[str, Any]:
        """Keyword arguments of PreSafeModel's forward."""
        return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in vars(self).items()}


@dataclass(frozen=True)
class Collator:
    """Packs examples of one think format.

    A sequence without a completion gets the empty think block in its place, so that the decision token's position and
    what follows it are there to be read; nothing of it is a target.
    """

    pad_id: int
    block: tuple[int, ...]
    """The empty think block."""
    shared: int
    """Its first tokens that Path B begins with too; the next one is the decision token."""

    @classmethod
    def of(cls, think: ThinkFormat, pad_id: int) -> "Collator":
        return cls(pad_id, tuple(think.empty_block_ids), len(think.decision_prefix))

    def length(self, example: Example) -> int:
        """Tokens of the example in a packed row."""
        return len(example.prompt) + (len(example.completion) or len(self.block))

    def pack(self, examples: Sequence[Example]) -> Batch:
        """Targets are the completions' tokens, predicted from the position before.

        Without an example the batch is one pad token and no index: a rank with nothing left still takes part.
        """
        ids: list[int] = []
        positions: list[int] = []
        target_index: list[int] = []
        target_ids: list[int] = []
        pre_cot: list[int] = []
        anchors: list[int] = []
        anchor_tokens = 0
        ordered = sorted(examples, key=lambda example: bool(example.completion))
        signals = [(k, e.refuse_probability) for k, e in enumerate(ordered) if e.refuse_probability is not None]
        for example in ordered:
            last = len(ids) + len(example.prompt) - 1
            pre_cot.append(last)
            target_index += range(last, last + len(example.completion))
            target_ids += example.completion
            sequence = example.prompt + (example.completion or list(self.block))
            ids += sequence
            positions += range(len(sequence))
            if not example.completion:
                anchors += [*range(last, last + self.shared), len(ids) - 1]
                anchor_tokens = len(ids)
        return Batch(
            input_ids=torch.tensor([ids or [self.pad_id]]),
            position_ids=torch.tensor([positions or [0]]),
            lengths=torch.tensor([self.length(example) for example in ordered], dtype=torch.long),
            pooled=torch.tensor([len(e.prompt) + len(e.completion) for e in ordered], dtype=torch.long),
            target_index=torch.tensor(target_index, dtype=torch.long),
            target_ids=torch.tensor(target_ids, dtype=torch.long),
            pre_cot_index=torch.tensor(pre_cot, dtype=torch.long),
            decision_index=torch.tensor(pre_cot, dtype=torch.long) + self.shared,
            signal_index=torch.tensor([k for k, _ in signals], dtype=torch.long),
            refuse_probability=torch.tensor([p for _, p in signals], dtype=torch.float32),
            anchor_index=torch.tensor(anchors, dtype=torch.long),
            anchor_tokens=anchor_tokens,
        )

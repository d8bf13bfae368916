"""The trained module: reasoning model and safety head in one forward, which returns sums.

Sums, because micro-batches and ranks hold different numbers of target tokens: the loss divides once, by the step's
global counts (loss.py). Everything that touches a weight runs inside this forward, as ZeRO-3 requires.
"""

from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from presafe.engines.head import SafetyHead


@dataclass(frozen=True)
class Sums:
    """Sums over one micro-batch, and the head's logits, shape [sequences], detached."""

    lm: torch.Tensor
    align: torch.Tensor
    head_logits: torch.Tensor


class PreSafeModel(nn.Module):
    """A causal LM (plain or wrapped by PEFT) with the auxiliary head of the paper's Fig. 3, step 2."""

    def __init__(self, lm: nn.Module, head: SafetyHead) -> None:
        super().__init__()
        self.lm, self.head = lm, head

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        target_index: torch.Tensor,
        target_ids: torch.Tensor,
        pre_cot_index: torch.Tensor,
        refuse_probability: torch.Tensor,
    ) -> Sums:
        """Sums of both losses over a packed micro-batch (collate.py has the shapes).

        lm: cross-entropy of `target_ids` at positions `target_index`, logits computed there alone.
        align: BCE(p_j, p'_j) at the pre-CoT positions (paper, L_align).
        """
        causal: Any = self.lm.get_base_model() if isinstance(self.lm, PeftModel) else self.lm
        hidden = causal.base_model(input_ids=input_ids, position_ids=position_ids, use_cache=False).last_hidden_state[0]
        logits = causal.lm_head(hidden.index_select(0, target_index)).float()
        lm = cross_entropy(logits, target_ids, reduction="sum")
        head_logits = self.head(hidden.index_select(0, pre_cot_index))
        align = binary_cross_entropy_with_logits(head_logits, refuse_probability, reduction="sum")
        return Sums(lm, align, head_logits.detach())

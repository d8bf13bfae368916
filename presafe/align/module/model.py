"""The trained module: reasoning model and safety head in one forward, which returns sums.

Sums, because micro-batches and ranks hold different numbers of target tokens: the loss divides once, by the step's
global counts (loss.py). Everything that touches a weight runs inside this forward, and on every rank the same modules
run in the same order, as ZeRO-3 requires.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from deepspeed.runtime.chunked_cross_entropy import chunked_cross_entropy
from peft import PeftModel
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, kl_div, log_softmax

from presafe.align.module.cross_entropy import FrozenOutputLoss
from presafe.align.module.kernels import packing
from presafe.decision.head import SafetyHead, decision_logits


@dataclass(frozen=True)
class Outputs:
    """Of one micro-batch of S sequences, of which those without a completion come first.

    sums: [3], of the losses L_LM, L_align and L_anchor; head_logits: [S], of p'_j, detached; refuses: [S], whether the
    greedy next token at the decision position is Path A's. Outside training, and with a readout head, else empty.
    """

    sums: torch.Tensor
    head_logits: torch.Tensor
    refuses: torch.Tensor


@dataclass(frozen=True)
class HeadSpec:
    """Where p'_j comes from.

    linear: a probe at the pre-CoT position; mean: a probe on the sequence's mean; readout: the probability of
    `decision_token` at the decision position, anchored to the base or not; none: as readout, but not trained.
    """

    kind: Literal["linear", "mean", "readout", "none"]
    decision_token: int
    layer: int = -1
    anchored: bool = False

    @property
    def probes(self) -> bool:
        return self.kind in ("linear", "mean")


class PreSafeModel(nn.Module):
    """A causal LM (plain or wrapped by PEFT) with the auxiliary head of the paper's Fig. 3, step 2."""

    def __init__(self, lm: nn.Module, spec: HeadSpec, head: SafetyHead | None) -> None:
        super().__init__()
        assert spec.probes == (head is not None)
        self.lm, self.spec, self.head = lm, spec, head
        output = self._causal.lm_head
        frozen = type(output) is nn.Linear and output.bias is None and not output.weight.requires_grad
        self.output_loss = FrozenOutputLoss(output.weight) if frozen else None

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        lengths: torch.Tensor,
        pooled: torch.Tensor,
        target_index: torch.Tensor,
        target_ids: torch.Tensor,
        pre_cot_index: torch.Tensor,
        decision_index: torch.Tensor,
        signal_index: torch.Tensor,
        refuse_probability: torch.Tensor,
        anchor_index: torch.Tensor,
        anchor_tokens: int,
    ) -> Outputs:
        """Sums of the losses over a packed micro-batch (collate.py has the shapes).

        L_LM: cross-entropy of `target_ids` at positions `target_index`, logits computed there alone.
        L_align: BCE(p_j, p'_j) (paper, section on step 2) of the sequences `signal_index`.
        L_anchor: KL(base, model) at positions `anchor_index`.
        """
        base = self._base_log_probabilities(input_ids, position_ids, anchor_index, anchor_tokens)
        hidden, probed = self._hidden(input_ids, position_ids)
        reads_decision = self.spec.kind == "readout" or not self.training
        decisions = decision_index if reads_decision else decision_index[:0]
        anchors = anchor_index if self.spec.anchored else anchor_index[:0]
        lm, read = self._lm_loss(hidden, target_index, target_ids, torch.cat([decisions, anchors]))
        deciding, anchoring = torch.split(read, [len(decisions), len(anchors)])
        if self.spec.probes:
            head_logits = self._probe(probed, position_ids[0], pre_cot_index, lengths, pooled)
        else:
            head_logits = decision_logits(deciding, self.spec.decision_token)
        align = lm.new_zeros(())
        if self.spec.kind != "none":
            signalled = head_logits.index_select(0, signal_index)
            align = binary_cross_entropy_with_logits(signalled, refuse_probability, reduction="sum")
        anchor = lm.new_zeros(())
        if base is not None:
            own = _log_probabilities(anchoring)
            anchor = kl_div(own, base, reduction="sum", log_target=True)
        refuses = deciding.detach().argmax(dim=-1) == self.spec.decision_token
        return Outputs(torch.stack([lm, align, anchor]), head_logits.detach(), refuses)

    @property
    def _causal(self) -> Any:
        return self.lm.get_base_model() if isinstance(self.lm, PeftModel) else self.lm

    def _lm_loss(
        self, hidden: torch.Tensor, target_index: torch.Tensor, target_ids: torch.Tensor, read: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """L_LM's sum, and logits [len(read), vocabulary] at the positions `read`.

        `lm_head` is called once a forward, since ranks that differ in calls would wait for each other.
        """
        if self.output_loss is not None:
            lm = self.output_loss(hidden.index_select(0, target_index), target_ids)
            return lm, self._causal.lm_head(hidden.index_select(0, read))
        logits = self._causal.lm_head(hidden.index_select(0, torch.cat([target_index, read])))
        targets, others = torch.split(logits, [len(target_index), len(read)])
        return chunked_cross_entropy(targets, target_ids, reduction="sum"), others

    def _hidden(self, input_ids: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states [T, hidden_size] behind the final norm, and those that a probe reads."""
        inner = self.spec.layer != -1
        output = self._causal.base_model(
            input_ids=input_ids,
            position_ids=position_ids,
            **packing(position_ids),
            use_cache=False,
            output_hidden_states=inner,
        )
        last = output.last_hidden_state[0]
        return last, output.hidden_states[self.spec.layer][0] if inner else last

    def _probe(
        self,
        hidden: torch.Tensor,
        position_ids: torch.Tensor,
        pre_cot_index: torch.Tensor,
        lengths: torch.Tensor,
        pooled: torch.Tensor,
    ) -> torch.Tensor:
        assert self.head is not None
        if self.spec.kind == "linear":
            return self.head(hidden.index_select(0, pre_cot_index))  # type: ignore[no-any-return]
        rows = torch.arange(len(lengths), device=hidden.device).repeat_interleave(lengths)
        kept = position_ids[: len(rows)] < pooled[rows]
        exact = hidden[: len(rows)].to(torch.promote_types(hidden.dtype, torch.float32))
        sums = exact.new_zeros(len(lengths), hidden.shape[1]).index_add(0, rows[kept], exact[kept])
        return self.head(sums / pooled.unsqueeze(1))  # type: ignore[no-any-return]

    def _base_log_probabilities(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, anchor_index: torch.Tensor, anchor_tokens: int
    ) -> torch.Tensor | None:
        """Next-token log-probabilities [K, vocabulary] of the model without its adapter at the anchors."""
        if not (self.spec.anchored and self.training):
            return None
        assert isinstance(self.lm, PeftModel)
        width = max(anchor_tokens, 1)  # a rank without anchors takes part with one token
        with torch.no_grad(), self.lm.disable_adapter():
            first = position_ids[:, :width]
            output = self._causal.base_model(
                input_ids=input_ids[:, :width], position_ids=first, **packing(first), use_cache=False
            )
            hidden = output.last_hidden_state[0].index_select(0, anchor_index)
            return _log_probabilities(self._causal.lm_head(hidden))


def _log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """In float32 or better."""
    return log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))

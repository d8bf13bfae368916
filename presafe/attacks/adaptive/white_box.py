"""A model's weights, for attacks that look into it: what its decision is made of, and where that comes from.

Shapes: B candidates, T positions of a prompt, D hidden size, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from presafe.attacks.adaptive.oracle import UnaskedError
from presafe.attacks.adaptive.target import Seen
from presafe.config import PrefixSettings
from presafe.conversation import Turn
from presafe.decision.head import decision_logits
from presafe.decision.reader import readable
from presafe.decision.refusal import RefusalReader
from presafe.decision.rule import PathTaken
from presafe.engines.engine import Completion
from presafe.engines.exported import LoadedModel
from presafe.judges.prefixes import prefix_judge


@dataclass(frozen=True)
class Logits:
    """head: [B], of p'; token: [B], log-odds of the decision token; refuses: [B], whether that one is the likeliest."""

    head: torch.Tensor
    token: torch.Tensor
    refuses: torch.Tensor

    @property
    def seen(self) -> list[Seen]:
        pairs = zip(self.refuses.tolist(), self.head.sigmoid().tolist(), strict=True)
        return [Seen("refuse" if refuses else "think", p) for refuses, p in pairs]


class WhiteBox:
    """An exported model whose weights are fixed. What it is read to decide is whether the decision token is the
    likeliest at its position, behind the tokens that both paths share."""

    def __init__(self, loaded: LoadedModel, max_prompt_tokens: int) -> None:
        assert loaded.reader is not None, "an exported model has a card"
        assert loaded.card is not None
        assert readable(loaded.reader), "a head that reads what the decision does not"
        self.loaded, self.think, self._reader = loaded, loaded.format, loaded.reader
        self.model: Any = loaded.model.requires_grad_(requires_grad=False)
        self.max_prompt_tokens = max_prompt_tokens
        self._refusals = RefusalReader(prefix_judge(PrefixSettings()), loaded.card.refusal.strip())

    def path(self, begun: Completion) -> PathTaken:
        """Of the beginning of an answer that the weights gave by themselves, by the endpoint's rule."""
        return "think" if begun.reasoning else self._refusals.end(begun.answer, begun.finish_reason)

    @property
    def decided_at(self) -> int:
        """Positions from the pre-CoT position on to that of the decision token."""
        return 1 + len(self.think.decision_prefix)

    def prompt_ids(self, text: str, earlier: Sequence[Turn]) -> list[int]:
        """The rendered CoT-ON prompt. Raises UnaskedError where the engine would not take it."""
        ids = self.think.prompt_ids([*earlier, {"role": "user", "content": text}])
        if len(ids) > self.max_prompt_tokens:
            raise UnaskedError(f"prompt of {len(ids)} tokens; the engine takes {self.max_prompt_tokens}")
        return ids

    def read(self, prompts: Sequence[Sequence[int]]) -> Logits:
        """Of prompts of one length."""
        return self.read_embedded(self.embedded(prompts))

    def embedded(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Input embeddings [B, T, D]."""
        found: torch.Tensor = self.model.get_input_embeddings()(torch.tensor(prompts, device=self.model.device))
        return found

    def read_embedded(self, prompts: torch.Tensor) -> Logits:
        """The same of input embeddings [B, T, D], with a gradient where they want one."""
        width = prompts.shape[1]
        if shared := self.think.decision_prefix:
            prompts = torch.cat([prompts, self.embedded([shared]).expand(len(prompts), -1, -1)], dim=1)
        output = self.model.base_model(inputs_embeds=prompts, use_cache=False)
        vocabulary = self.model.get_output_embeddings()(output.last_hidden_state[:, -1])
        head = self._reader.logits(self.model, output, None, width)
        token = self.think.decision_token
        return Logits(head, decision_logits(vocabulary, token), vocabulary.argmax(dim=-1) == token)

    @cached_property
    def vocabulary(self) -> torch.Tensor:
        """Input embeddings [V, D] of all tokens."""
        embeddings = self.model.get_input_embeddings()
        found: torch.Tensor = embeddings(torch.arange(embeddings.num_embeddings, device=self.model.device))
        return found

    @cached_property
    def unspeakable(self) -> list[int]:
        """Ids that no text has: control tokens, and rows of the vocabulary without a token."""
        tokenizer = self.think.tokenizer
        rows = range(len(tokenizer), len(self.vocabulary))
        return sorted({*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values(), *rows})

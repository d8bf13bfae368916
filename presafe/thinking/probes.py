"""Conversations that are rendered to see what a chat template does with thoughts, answers and ends of turns."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from presafe.errors import UserError
from presafe.thinking.render import Message, Rendering
from presafe.thinking.tags import Tags

if TYPE_CHECKING:  # it imports torch, which who only deploys a model does not need
    from transformers import PreTrainedTokenizerBase

QUESTION, PLAN, ANSWER, NEXT = "Probe question", "Probe plan", "Probe answer", "Probe follow-up"
USER = {"role": "user", "content": QUESTION}
FOLLOW_UP = {"role": "user", "content": NEXT}


@dataclass(frozen=True)
class Probes:
    """What a tokenizer's template renders with thinking on. A conversation that it refuses renders as nothing."""

    tokenizer: "PreTrainedTokenizerBase"
    rendering: Rendering

    @cached_property
    def prompt(self) -> str:
        """Raises UserError where the template takes no single question."""
        return self.rendering.text(self.tokenizer, [USER])

    @cached_property
    def template(self) -> str:
        return str(self.tokenizer.get_chat_template())

    @cached_property
    def plain(self) -> str:
        """A finished turn without a thought."""
        return self._finished({"content": ANSWER})

    @cached_property
    def thoughts(self) -> list[str]:
        """Finished turns with a thought, in the ways in which templates take them."""
        fields = dict.fromkeys(("reasoning_content", "reasoning", "thinking"), PLAN)
        blocks = [{"type": "thinking", "thinking": PLAN}, {"type": "text", "text": ANSWER}]
        return [self._finished({"content": ANSWER, **fields}), self._finished({"content": blocks})]

    @cached_property
    def next_turn(self) -> str:
        """What the template puts behind an answer that a user's next message follows, up to that message."""
        text = self._text([USER, {"role": "assistant", "content": ANSWER}, FOLLOW_UP])
        return text.rpartition(ANSWER)[2].partition(NEXT)[0]

    def strips(self, tags: Tags) -> bool:
        """Whether a past thought in such tags is left out of the conversation, and a text in other tags is not."""
        thought = self._past(f"{tags.open}\n{PLAN}\n{tags.close}\n\n{ANSWER}")
        other = self._past(f"<zq>\n{PLAN}\n</zq>\n\n{ANSWER}")
        return ANSWER in thought and PLAN not in thought and PLAN in other

    def mentions(self, tags: Tags) -> bool:
        """Whether the prompt itself tells the model to think in such tags."""
        return re.search(rf"{re.escape(tags.open)}.*?{re.escape(tags.close)}", self.prompt, re.DOTALL) is not None

    def holds(self, tags: Tags) -> bool:
        """Whether both tags are tokens of the vocabulary."""
        added = self.tokenizer.get_added_vocab()
        return tags.open in added and tags.close in added

    def heads_answer(self, tag: str) -> bool:
        """Whether `tag` stands in front of a finished answer: it is a role header."""
        return self.plain.partition(ANSWER)[0].rstrip().endswith(tag)

    def _past(self, content: str) -> str:
        return self._text([USER, {"role": "assistant", "content": content}, FOLLOW_UP])

    def _finished(self, turn: Message) -> str:
        return self._text([USER, {"role": "assistant", **turn}], generate=False)

    def _text(self, messages: Sequence[Message], *, generate: bool = True) -> str:
        try:
            return self.rendering.text(self.tokenizer, messages, generate=generate)
        except UserError:
            return ""

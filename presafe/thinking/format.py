"""The think format of a reasoning model: its prompts, its two paths, and what a completion of it says.

Whether the prompt opens the think block (DeepSeek-R1) or the model does (Qwen3), which tags and which white space
stand around a thought, and how a turn ends, differs by family; `derive.py` reads it off the chat template. CoT-OFF is
an empty think block in front of the answer, or what the template itself makes of thinking turned off (docs/models.md).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from presafe.conversation import Prefill
from presafe.errors import user_error
from presafe.thinking.control import any_of, broken, removed
from presafe.thinking.render import SOFT_SWITCHES, Message, Rendering
from presafe.thinking.split import Splitter, Thought
from presafe.thinking.tags import Tags

if TYPE_CHECKING:  # it imports torch, which who only deploys a model does not need
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class ThinkFormat:
    """How one tokenizer writes prompts and completions with chain-of-thought on and off.

    `empty_block` is the text that, put behind the CoT-ON prompt, closes the think block without a thought (Path A);
    `opened_by_prompt` says whether the CoT-ON prompt already holds the opening tag. `opening` stands in front of a
    thought behind that prompt, `closing` behind the thought, `gap` between an empty block and the answer. `end_of_turn`
    is the text that ends a finished turn; its last token is `end_id`.
    """

    tokenizer: "PreTrainedTokenizerBase"
    open_tag: str
    close_tag: str
    empty_block: str
    opened_by_prompt: bool
    opening: str
    closing: str
    gap: str
    end_of_turn: str
    switch: str
    """What turns thinking off: an argument of the template, a text in the system message, or `none`."""
    on: Rendering
    off: Rendering | None
    """How the template renders CoT-OFF; None where that is the CoT-ON prompt with the empty block behind it."""

    def prompt_ids(self, messages: Sequence[Message], *, cot: bool = True) -> list[int]:
        """Token ids of the rendered prompt; its last position is the pre-CoT position when `cot` is on.

        No message can write a think tag or a control token: they are removed first, as `without_control` says, and
        what removal leaves is broken. Raises UserError where the template takes no such conversation.
        """
        clean = [{**m, "content": self.neutralise(self.without_control(m["content"]))} for m in messages]
        if not cot and self.off is not None:
            return self._encode(self.off.text(self.tokenizer, clean))
        ids = self._encode(self.on.text(self.tokenizer, clean))
        return ids if cot else ids + self.empty_block_ids

    def refuse_completion(self, answer: str) -> list[int]:
        """Path A as training target: the empty think block, then the answer, then the end of the turn."""
        return [*self.empty_block_ids, *self._encode(self.gap + self.spoken(answer)), *self._end_ids]

    def think_completion(self, reasoning: str, answer: str) -> list[int]:
        """Path B as training target: the model's own reasoning and answer, then the end of the turn."""
        thought = f"{self.opening}{self.spoken(reasoning)}{self.closing}{self.spoken(answer)}"
        return [*self._encode(thought), *self._end_ids]

    def primer_completion(self, primer: str) -> list[int]:
        """The start of a CoT that opens with `primer`, which the model is free to go on from."""
        return self._encode(f"{self.opening}{primer}")

    def prefill_ids(self, prefill: Prefill) -> list[int]:
        """The beginning of a turn behind the CoT-ON prompt, as this model writes it. An open block without a thought is
        the opening alone: nothing where the prompt has it.
        """
        thought, answer = self.spoken(prefill["thought"]), self.spoken(prefill["answer"])
        if not prefill["closed"]:
            return self.primer_completion(thought)
        if not thought:
            return [*self.empty_block_ids, *self._encode(self.gap + answer)]
        return self._encode(f"{self.opening}{thought}{self.closing}{answer}")

    @cached_property
    def empty_block_ids(self) -> list[int]:
        """Token ids of `empty_block`, how Path A begins."""
        return self._encode(self.empty_block)

    def split(self, completion: str, *, cot: bool) -> Thought:
        """Take a decoded completion apart into reasoning and answer."""
        return self.splitter(cot=cot).whole(completion)

    def split_beginning(self, completion: str, *, cot: bool) -> Thought:
        """The same of a completion that goes on; `closed` says that its answer has begun, whatever comes behind."""
        return self.splitter(cot=cot).beginning(completion)

    def splitter(self, *, cot: bool) -> Splitter:
        """Takes completions of CoT-ON, or CoT-OFF, prompts apart."""
        begins = "answer" if not cot else "inside" if self.opened_by_prompt else "in front"
        return Splitter(Tags(self.open_tag, self.close_tag), begins, self.closing.startswith("\n"))

    def without_control(self, text: str) -> str:
        """`text` without think tags and control tokens, and without the white space that set them off.

        A decision on it is the one on the text in which nobody had written them. Tags that removal makes of what stood
        around others are removed as well, up to a depth beyond which `neutralise` breaks them.
        """
        return removed(text, self._control_pattern)

    def neutralise(self, text: str) -> str:
        """Break every think tag and control token in `text` with a space, so that the tokenizer reads plain text."""
        text = broken(text, self._control_pattern)
        if self._control_ids.intersection(self._encode(text)):
            raise user_error(
                found="a message that still holds a control token after neutralising",
                needed="plain text",
                change="remove the special tokens from it",
            )
        return text

    def has_control(self, text: str) -> bool:
        """Whether a generated text holds a think tag or a control token, which no training target may take over."""
        return self.spoken(text) != text

    def spoken(self, text: str) -> str:
        """A generated text as a training target may hold it: up to its first control token, without think tags."""
        ended = self._turn_pattern.search(text)
        text = text[: ended.start()].rstrip() if ended else text
        return broken(removed(text, self._tag_pattern), self._tag_pattern)

    @cached_property
    def decision_prefix(self) -> list[int]:
        """Token ids that Path A and Path B share at the start of a completion; they part at the next token."""
        block = self.empty_block_ids
        thought = self.think_completion("x", "x")
        shared = 0
        while shared < len(block) and block[shared] == thought[shared]:
            shared += 1
        return block[:shared]

    @cached_property
    def decision_token(self) -> int:
        """The first token of Path A where it leaves Path B: the decision token."""
        return self.empty_block_ids[len(self.decision_prefix)]

    @property
    def end_id(self) -> int:
        """The token that ends a turn."""
        return self._end_ids[-1]

    @cached_property
    def _end_ids(self) -> list[int]:
        return self._encode(self.end_of_turn)

    @cached_property
    def _control_tokens(self) -> dict[str, int]:
        added: dict[str, int] = self.tokenizer.get_added_vocab()
        return {text: index for text, index in added.items() if len(text.strip()) > 1}

    @cached_property
    def _control_ids(self) -> frozenset[int]:
        return frozenset(self._control_tokens.values())

    @cached_property
    def _control_pattern(self) -> re.Pattern[str]:
        """What no message may hold: control tokens, think tags, and the texts that this template takes for a switch."""
        template = self.tokenizer.get_chat_template()
        switches = [text for text in SOFT_SWITCHES if re.search(rf"(?<!<){text}\b", template)]  # not in `</think>`
        return any_of({*self._control_tokens, self.open_tag, self.close_tag, *switches})

    @cached_property
    def _tag_pattern(self) -> re.Pattern[str]:
        return any_of({*self._control_tokens, self.open_tag, self.close_tag})

    @cached_property
    def _turn_pattern(self) -> re.Pattern[str]:
        """Control tokens that are no think tags: behind one, another turn or message has begun."""
        return any_of({*self._control_tokens, self.end_of_turn} - {self.open_tag, self.close_tag})

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

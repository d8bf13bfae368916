"""The think format of a reasoning model, read off its chat template by rendering it.

Two families exist. In Qwen3's the prompt ends in the assistant header and the model opens the think block itself; in
DeepSeek-R1's the prompt already ends in the opened block. Nobody tells this module which: it renders the template with
thinking on and off and compares. CoT-OFF is an empty think block in front of the answer (docs/method.md).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from presafe.errors import user_error

if TYPE_CHECKING:  # it imports torch, which who only deploys a model does not need
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, str]

NESTED_TAGS = 8
"""Depth of forged tags within forged tags that is taken apart; each costs a pass over the text."""


@dataclass(frozen=True)
class Thought:
    """A completion taken apart. `closed` is False where the reasoning was cut off before its closing tag."""

    reasoning: str
    answer: str
    closed: bool


@dataclass(frozen=True)
class ThinkFormat:
    """How one tokenizer writes prompts and completions with chain-of-thought on and off.

    `empty_block` is the text that, put behind the CoT-ON prompt, makes it the CoT-OFF prompt; `opened_by_prompt` says
    whether the CoT-ON prompt already holds the opening tag.
    """

    tokenizer: "PreTrainedTokenizerBase"
    open_tag: str
    close_tag: str
    empty_block: str
    opened_by_prompt: bool

    def prompt_ids(self, messages: Sequence[Message], *, cot: bool = True) -> list[int]:
        """Token ids of the rendered prompt; its last position is the pre-CoT position when `cot` is on.

        Message contents are neutralised first, so that no user can write a think tag or a control token.
        """
        clean = [{**m, "content": self.neutralise(m["content"])} for m in messages]
        ids = self._encode(_render(self.tokenizer, clean, enable_thinking=True))
        return ids if cot else ids + self.empty_block_ids

    def refuse_completion(self, answer: str) -> list[int]:
        """Path A as training target: the empty think block, then the answer, then end of sequence."""
        return [*self.empty_block_ids, *self._encode(answer), self._eos]

    def think_completion(self, reasoning: str, answer: str) -> list[int]:
        """Path B as training target: the model's own reasoning and answer, then end of sequence."""
        opening = "" if self.opened_by_prompt else f"{self.open_tag}\n"
        return [*self._encode(f"{opening}{reasoning}\n{self.close_tag}\n\n{answer}"), self._eos]

    def primer_completion(self, primer: str) -> list[int]:
        """The start of a CoT that opens with `primer`, which the model is free to go on from."""
        opening = "" if self.opened_by_prompt else f"{self.open_tag}\n"
        return self._encode(f"{opening}{primer}")

    @cached_property
    def empty_block_ids(self) -> list[int]:
        """Token ids of `empty_block`, how Path A begins."""
        return self._encode(self.empty_block)

    def split(self, completion: str, *, cot: bool) -> Thought:
        """Take a decoded completion apart into reasoning and answer (CoT-OFF completions are all answer)."""
        if not cot:
            return Thought("", completion.rpartition(self.close_tag)[2].strip(), closed=True)
        head, closing, tail = completion.partition(self.close_tag)
        reasoning = head.replace(self.open_tag, "").strip()
        if closing:
            return Thought(reasoning, tail.strip(), closed=True)
        if self.opened_by_prompt or self.open_tag in head:
            return Thought(reasoning, "", closed=False)
        return Thought("", completion.strip(), closed=True)

    def without_control(self, text: str) -> str:
        """`text` without think tags and control tokens, and without the white space that set them off.

        A decision on it is the one on the text in which nobody had written them. Tags that removal makes of what stood
        around others are removed as well, up to a depth beyond which `neutralise` breaks them.
        """
        for _ in range(NESTED_TAGS):
            segments = self._control_pattern.split(text)
            if len(segments) == 1:
                return text
            text = _joined(segments)
        return text

    def neutralise(self, text: str) -> str:
        """Break every think tag and control token in `text` with a space, so that the tokenizer reads plain text."""
        while self._control_pattern.search(text):
            text = self._control_pattern.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)
        if self._control_ids.intersection(self._encode(text)):
            raise user_error(
                found="a message that still holds a control token after neutralising",
                needed="plain text",
                change="remove the special tokens from it",
            )
        return text

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
    def _eos(self) -> int:
        eos = self.tokenizer.eos_token_id
        assert isinstance(eos, int)
        return eos

    @cached_property
    def _control_tokens(self) -> dict[str, int]:
        added: dict[str, int] = self.tokenizer.get_added_vocab()
        return {text: index for text, index in added.items() if len(text.strip()) > 1}

    @cached_property
    def _control_ids(self) -> frozenset[int]:
        return frozenset(self._control_tokens.values())

    @cached_property
    def _control_pattern(self) -> re.Pattern[str]:
        tags = sorted({*self._control_tokens, self.open_tag, self.close_tag}, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, tags)))

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def _joined(segments: list[str]) -> str:
    """The text between tags, with one space where white space parted it."""
    last = len(segments) - 1
    parts: list[str] = []
    spaced = False
    for place, segment in enumerate(segments):
        words = segment if place == 0 else segment.lstrip()
        words = words if place == last else words.rstrip()
        spaced = spaced or (place > 0 and segment[:1].isspace())
        if words:
            parts += [" ", words] if parts and spaced else [words]
            spaced = place < last and segment[-1:].isspace()
        else:
            spaced = spaced or bool(segment)
    return "".join(parts)


def think_format(tokenizer: "PreTrainedTokenizerBase") -> ThinkFormat:
    """Read the think format off `tokenizer.chat_template`.

    Raises UserError where the tokenizer has no chat template or the template knows no think block.
    """
    if not tokenizer.chat_template:
        raise user_error(
            found=f"a tokenizer without a chat template ({tokenizer.name_or_path})",
            needed="the chat template of a reasoning model",
            change="point model.path at a model that ships one",
        )
    message = [{"role": "user", "content": "x"}]
    on = _render(tokenizer, message, enable_thinking=True)
    off = _render(tokenizer, message, enable_thinking=False)
    block = off[len(on) :] if off.startswith(on) else ""
    opened = re.search(r"<([^<>/\s]+)>\s*$", on)
    closed = re.search(r"</([^<>\s]+)>", block)
    if opened:
        tag, opened_by_prompt = opened[1], True
        block = block or f"\n</{tag}>\n\n"
    elif closed:
        tag, opened_by_prompt = closed[1], False
    else:
        raise user_error(
            found=f"a chat template that renders no think block ({tokenizer.name_or_path})",
            needed="a prompt that ends in an opened think block, or one that takes enable_thinking=False",
            change="use a reasoning model's template",
        )
    return ThinkFormat(tokenizer, f"<{tag}>", f"</{tag}>", block, opened_by_prompt)


def _render(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], *, enable_thinking: bool) -> str:
    text = tokenizer.apply_chat_template(
        [dict(m) for m in messages], tokenize=False, add_generation_prompt=True, enable_thinking=enable_thinking
    )
    assert isinstance(text, str)
    return text

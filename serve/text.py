"""From tokens to text while they come: whole characters, reasoning and answer apart, stop sequences, no forged tags."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from presafe.thinking import ThinkFormat

if TYPE_CHECKING:  # it imports torch, which who only deploys a model does not need
    from transformers import PreTrainedTokenizerBase

Channel = Literal["reasoning", "answer", "refusal"]
"""`refusal` is an answer in the endpoint's own words; a model writes the other two."""
INCOMPLETE = "\ufffd"
"""What a tokenizer decodes the first bytes of an unfinished character to."""
LONGEST_CHARACTER = 4
"""Bytes, and so tokens at most. What is unfinished behind them will never be a character."""


@dataclass(frozen=True)
class Text:
    """Some more text of one channel, never empty."""

    channel: Channel
    text: str


class Detokeniser:
    """Text of one token after the other. Bytes of an unfinished character wait; special tokens but the tags vanish.

    A token's text may depend on the one before it (a leading space), so each is decoded behind the last ones.
    """

    def __init__(self, think_format: ThinkFormat) -> None:
        self._tokenizer: PreTrainedTokenizerBase = think_format.tokenizer
        tags = (think_format.open_tag, think_format.close_tag)
        added = self._tokenizer.added_tokens_decoder.items()
        self._hidden = frozenset(i for i, token in added if token.special and str(token) not in tags)
        self._window: list[int] = []
        self._read = 0

    def push(self, token: int) -> str:
        if token in self._hidden:
            return ""
        self._window.append(token)
        known, text = self._decode(self._window[: self._read]), self._decode(self._window)
        if text.endswith(INCOMPLETE) and len(self._window) - self._read < LONGEST_CHARACTER:
            return ""
        self._window, self._read = self._window[self._read :], len(self._window) - self._read
        return text[len(known) :]

    def _decode(self, tokens: list[int]) -> str:
        text = self._tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text


class CompletionText:
    """Takes a completion's text apart as `ThinkFormat.split` does, but while it comes and with stop sequences.

    A tag where none belongs comes out broken by a space, as in a message. Text in front of any tag, where the model
    should have opened the think block, is answer. Stop sequences apply to an answer behind reasoning only: no client
    can cut a refusal (Path A) into something else.
    """

    def __init__(self, think_format: ThinkFormat, stop: Sequence[str]) -> None:
        self._open_tag, self._close_tag = think_format.open_tag, think_format.close_tag
        self._tag = re.compile(f"{re.escape(self._open_tag)}|{re.escape(self._close_tag)}")
        self._stop = stop
        self._place: Literal["opening", "reasoning", "answer"] = (
            "reasoning" if think_format.opened_by_prompt else "opening"
        )
        self._buffer = ""
        self._reasoning, self._answer = _Trimmed(()), _Trimmed(())

    @property
    def has_reasoning(self) -> bool:
        """Whether any reasoning but white space has come."""
        return self._reasoning.started

    @property
    def in_answer(self) -> bool:
        return self._place == "answer"

    @property
    def stopped(self) -> bool:
        """Whether a stop sequence has ended the answer."""
        return self._answer.stopped

    def push(self, text: str) -> list[Text]:
        self._buffer += text
        return [*self._advance()]

    def finish(self) -> list[Text]:
        """What was still held back, once the completion is over."""
        held, self._buffer = self._buffer, ""
        in_reasoning = self._place == "reasoning"
        reasoning = (self._reasoning.push(held) if in_reasoning else "") + self._reasoning.finish()
        answer = ("" if in_reasoning else self._answer.push(held)) + self._answer.finish()
        return [*_text("reasoning", reasoning), *_text("answer", answer)]

    def _advance(self) -> Iterator[Text]:
        if self._place == "opening" and not self._open():
            return
        if self._place == "reasoning":
            before, closing, after = self._buffer.partition(self._close_tag)
            if not closing:
                yield from _text("reasoning", self._reasoning.push(self._release()))
                return
            yield from _text("reasoning", self._reasoning.push(self._neutralise(before)) + self._reasoning.finish())
            self._buffer = after
            self._begin_answer()
        yield from _text("answer", self._answer.push(self._release()))

    def _open(self) -> bool:
        """Leave the place in front of the think block; False where more text is needed to tell what it is."""
        text = self._buffer.lstrip()
        if any(tag.startswith(text) and tag != text for tag in (self._open_tag, self._close_tag)):
            return False
        if text.startswith(self._open_tag):
            self._place, self._buffer = "reasoning", text.removeprefix(self._open_tag)
        else:
            self._buffer = text.removeprefix(self._close_tag)
            self._begin_answer()
        return True

    def _begin_answer(self) -> None:
        self._place = "answer"
        self._answer = _Trimmed(self._stop if self.has_reasoning else ())

    def _release(self) -> str:
        """The buffer up to what may be the beginning of a tag."""
        text = self._neutralise(self._buffer)
        held = _beginning_of(text, (self._open_tag, self._close_tag))
        self._buffer = text[len(text) - held :]
        return text[: len(text) - held]

    def _neutralise(self, text: str) -> str:
        return self._tag.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)


class _Trimmed:
    """A text without white space around it, up to the first stop sequence."""

    def __init__(self, stop: Sequence[str]) -> None:
        self.started = self.stopped = False
        self._stop = stop
        self._held = ""

    def push(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        if not self.started:
            text = text.lstrip()
            self.started = bool(text)
        ends = [text.find(stop) for stop in self._stop if stop in text]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)].rstrip()
        ready = text[: len(text) - _beginning_of(text, self._stop)].rstrip()
        self._held = text[len(ready) :]
        return ready

    def finish(self) -> str:
        held, self._held = self._held, ""
        return held.rstrip()


def _text(channel: Channel, text: str) -> list[Text]:
    return [Text(channel, text)] if text else []


def _beginning_of(text: str, marks: Sequence[str]) -> int:
    """Length of the longest end of `text` that is the beginning of a mark."""
    longest = max(map(len, marks), default=1) - 1
    ends = range(min(longest, len(text)), 0, -1)
    return next((k for k in ends if any(mark.startswith(text[-k:]) and len(mark) > k for mark in marks)), 0)

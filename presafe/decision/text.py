"""From tokens to text while they come: whole characters, reasoning and answer apart, stop sequences, no forged tags."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from presafe.thinking import ThinkFormat
from presafe.thinking.split import line_of, quoted, unwrapped
from presafe.thinking.tags import WRAPPERS

if TYPE_CHECKING:  # it imports torch, which who only deploys a model does not need
    from transformers import PreTrainedTokenizerBase

Channel = Literal["reasoning", "answer", "refusal"]
"""`refusal` is an answer in the endpoint's own words; a model writes the other two."""
INCOMPLETE = "\ufffd"
"""What a tokenizer decodes the first bytes of an unfinished character to."""
LONGEST_CHARACTER = 4
"""Bytes, and so tokens at most. What is unfinished behind them will never be a character."""

WRAPPER_ENDS = tuple(wrapper.close for wrapper in WRAPPERS)


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

    It cannot wait for the end, so in two places it differs. The first closing tag that is not in quotation marks ends
    the reasoning, on a line of its own or not. Text in front of any tag, where the model should have opened the think
    block, is answer. A tag where none belongs comes out broken by a space, as in a message. Stop sequences apply to an
    answer behind reasoning only: no client can cut a refusal (Path A) into something else.
    """

    def __init__(self, think_format: ThinkFormat, stop: Sequence[str]) -> None:
        self._splitter = think_format.splitter(cot=True)
        self._tags = self._splitter.tags
        self._tag = re.compile(f"{re.escape(self._tags.open)}|{re.escape(self._tags.close)}")
        self._stop = stop
        self._place: Literal["between", "reasoning", "answer"] = "between"
        self._opened, self._closed = think_format.opened_by_prompt, False
        """Whether the last tag in front of a thought or an answer opened a block, or closed one."""
        self._buffer = ""
        self._line = ""
        """Of the reasoning's line: the first character but white space, and the last one."""
        self._reasoning, self._answer = _Trimmed(), _Trimmed()
        self.has_reasoning = False
        """Whether any reasoning but white space has come."""

    @property
    def block_over(self) -> bool:
        """Whether the think block is closed, or left out; another one may still be opened in front of the answer."""
        if self._place == "reasoning":  # only what comes next shows whether the tag is in quotation marks
            return self._buffer == self._tags.close
        return self._place == "answer" or self._closed

    @property
    def stopped(self) -> bool:
        """Whether a stop sequence has ended the answer."""
        return self._answer.stopped

    def push(self, text: str) -> list[Text]:
        self._buffer += text
        return [*self._advance(over=False)]

    def finish(self) -> list[Text]:
        """What was still held back, once the completion is over."""
        return [
            *self._advance(over=True),
            *_text("reasoning", self._reasoning.finish()),
            *_text("answer", self._answer.finish()),
        ]

    def _advance(self, *, over: bool) -> Iterator[Text]:
        while True:
            if self._place == "between":
                if not self._pass_slips(over=over):
                    return
            elif self._place == "reasoning":
                yield from self._think(over=over)
                if self._place == "reasoning":
                    return
            else:
                yield from _text("answer", self._answer.push(self._release(over=over)))
                return

    def _pass_slips(self, *, over: bool) -> bool:
        """Leave the place in front of a think block or an answer; False where more text is needed to tell which."""
        self._buffer = self._buffer.lstrip()
        while (slip := self._splitter.slip(self._buffer, inside=self._opened)) is not None:
            if slip in (self._tags.open, self._tags.close):
                self._opened, self._closed = slip == self._tags.open, slip == self._tags.close
            self._buffer = self._buffer[len(slip) :].lstrip()
        if self._splitter.may_become_a_slip(self._buffer, inside=self._opened) and not over:
            return False
        if self._opened:
            self._place, self._reasoning, self._line = "reasoning", _Trimmed(), ""
        else:
            self._place = "answer"
            self._answer = _Trimmed(self._stop if self.has_reasoning else (), WRAPPER_ENDS)
        return True

    def _think(self, *, over: bool) -> Iterator[Text]:
        """Reasoning, up to the tag that ends it."""
        while self._tags.close in self._buffer:
            before, tag, behind = self._buffer.partition(self._tags.close)
            yield from self._thought(before)
            spoken_of = quoted(self._line, behind)
            if self._line.strip() and not (behind or spoken_of or over):
                self._buffer = tag
                return
            self._buffer = behind
            if not spoken_of:
                yield from _text("reasoning", self._reasoning.finish())
                self._place, self._opened, self._closed = "between", False, True
                return
            yield from self._thought(tag)
        yield from self._thought(self._release(over=over))

    def _thought(self, text: str) -> Iterator[Text]:
        line = line_of(self._line + text)
        self._line = line.lstrip()[:1] + line[-1:]
        begun = self._reasoning.started
        text = self._reasoning.push(self._neutralise(text))
        if self._reasoning.started and not begun:
            text = "\n\n" + text if self.has_reasoning else text
            self.has_reasoning = True
        yield from _text("reasoning", text)

    def _release(self, *, over: bool) -> str:
        """The buffer up to what may be the beginning of a tag."""
        text = self._neutralise(self._buffer)
        held = 0 if over else _beginning_of(text, (self._tags.open, self._tags.close))
        self._buffer = text[len(text) - held :]
        return text[: len(text) - held]

    def _neutralise(self, text: str) -> str:
        return self._tag.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)


class _Trimmed:
    """A text without white space around it and without `ends` at its end, up to the first stop sequence."""

    def __init__(self, stop: Sequence[str] = (), ends: Sequence[str] = ()) -> None:
        self.started = self.stopped = False
        self._stop, self._ends = stop, ends
        self._held = ""

    def push(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        if not self.started:
            text = text.lstrip()
            self.started = bool(text)
        stops = [text.find(stop) for stop in self._stop if stop in text]
        if stops:
            self.stopped, self._held = True, ""
            return text[: min(stops)].rstrip()
        ready = text[: len(text) - _beginning_of(text, (*self._stop, *self._ends))].rstrip()
        while (shorter := _without(ready, self._ends)) != ready:
            ready = shorter
        self._held = text[len(ready) :]
        return ready

    def finish(self) -> str:
        held, self._held = self._held, ""
        return unwrapped(held) if self._ends else held.rstrip()


def _without(text: str, ends: Sequence[str]) -> str:
    for end in ends:
        text = text.removesuffix(end).rstrip()
    return text


def _text(channel: Channel, text: str) -> list[Text]:
    return [Text(channel, text)] if text else []


def _beginning_of(text: str, marks: Sequence[str]) -> int:
    """Length of the longest end of `text` that is the beginning of a mark."""
    longest = max(map(len, marks), default=1) - 1
    ends = range(min(longest, len(text)), 0, -1)
    return next((k for k in ends if any(mark.startswith(text[-k:]) and len(mark) > k for mark in marks)), 0)

"""Answers in OpenAI's shape, each with a `presafe` object."""

import json
import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from presafe.decision.events import Decided, Event, Finished
from presafe.decision.rule import Path, PathTaken, ServingGate
from presafe.decision.text import Channel, Text
from presafe.engines.streaming import EndReason

Choices = tuple[int, Event]
"""An event of the completion with this index."""


class PreSafe(BaseModel):
    """The `presafe` object of a response."""

    path: PathTaken
    """`think`: with reasoning. `refuse`: a refusal, without. `answer`: anything else, without."""
    refuse_probability: float | None
    """The head's p'; null where it is not a number (a gate that is on then refuses), or is not shown to clients."""
    threshold: float | None
    """The gate's; it decides only where the gate is on. Null where it is not shown to clients."""
    gate: ServingGate
    """Whether the gate is on, or only logs."""
    gate_path: Path | None
    """What the gate decided; null where it is off."""


@dataclass(frozen=True)
class Served:
    """What answers, as its clients see it."""

    model: str
    gate: ServingGate
    threshold: float | None
    reveal: bool
    """Whether clients see probability and threshold."""
    refusal_finish_reason: Literal["stop", "content_filter"] = "stop"
    """Of a whole refusal."""
    refusal_field: bool = True
    """Whether a refusal in the endpoint's own words is in `refusal`, too."""

    @property
    def shown_threshold(self) -> float | None:
        """The threshold, where clients see it."""
        return self.threshold if self.reveal else None

    def presafe(self, decided: Decided) -> PreSafe:
        shown = self.reveal and not math.isnan(decided.refuse_probability)
        return PreSafe(
            path=decided.path,
            refuse_probability=decided.refuse_probability if shown else None,
            threshold=self.shown_threshold,
            gate=self.gate,
            gate_path=decided.gate_path,
        )


FIELDS = {"reasoning": ("reasoning_content",), "answer": ("content",), "refusal": ("content", "refusal")}
"""Of a message, by the channel of a text: a client that reads `content` alone sees every refusal."""


class Reply:
    """Builds the bodies that answer one request."""

    def __init__(self, served: Served, prompt_tokens: int) -> None:
        self.id = f"chatcmpl-{uuid.uuid4().hex}"
        self._served, self._prompt_tokens = served, prompt_tokens
        self._common = {"id": self.id, "created": int(time.time()), "model": served.model}
        self._presafe: dict[str, Any] = {}
        self._finished: list[Finished] = []

    def headers(self, decided: Event) -> dict[str, str]:
        """The decision, before the first byte of the body."""
        assert isinstance(decided, Decided)
        shown = self._served.presafe(decided).model_dump(mode="json", exclude_none=True)
        return {f"x-presafe-{name.replace('_', '-')}": str(value) for name, value in shown.items()}

    def completion(self, events: Sequence[Choices]) -> str:
        """The whole answer as JSON."""
        messages: dict[int, dict[str, Any]] = {}
        choices: dict[int, dict[str, Any]] = {}
        for index, event in events:
            message = messages.setdefault(
                index, {"role": "assistant", "content": "", "refusal": None, "reasoning_content": ""}
            )
            match event:
                case Decided():
                    self._note(event)
                case Text(channel, text):
                    for name in self._fields(channel):
                        message[name] = (message[name] or "") + text
                case Finished(reason):
                    self._finished.append(event)
                    finish_reason = self._finish_reason(reason)
                    choices[index] = {"index": index, "message": message, "finish_reason": finish_reason}
        body = {
            **self._common,
            "object": "chat.completion",
            "choices": [choices[index] for index in sorted(choices)],
            "usage": self._usage(),
            **self._presafe,
        }
        return _json(body)

    def chunk(self, index: int, event: Event, *, include_usage: bool) -> str:
        """The chunk, as JSON, that tells a streaming client of one event."""
        extra: dict[str, Any] = {"usage": None} if include_usage else {}
        match event:
            case Decided():
                self._note(event)
                return self._chunk(index, {"role": "assistant", "content": ""}, **self._presafe, **extra)
            case Text(channel, text):
                return self._chunk(index, dict.fromkeys(self._fields(channel), text), **extra)
            case Finished(reason):
                self._finished.append(event)
                return self._chunk(index, {}, finish_reason=self._finish_reason(reason), **self._presafe, **extra)

    def usage_chunk(self) -> str:
        """The last chunk of a stream that asked for the tokens."""
        body = {**self._common, "object": "chat.completion.chunk", "choices": [], **self._presafe}
        return _json({**body, "usage": self._usage()})

    def _chunk(self, index: int, delta: dict[str, str], *, finish_reason: str | None = None, **extra: Any) -> str:
        choices = [{"index": index, "delta": delta, "finish_reason": finish_reason}]
        body = {**self._common, "object": "chat.completion.chunk", "choices": choices, **extra}
        return _json(body)

    def _fields(self, channel: Channel) -> tuple[str, ...]:
        return FIELDS[channel] if self._served.refusal_field else FIELDS[channel][:1]

    def _finish_reason(self, reason: EndReason) -> str:
        refused = self._presafe["presafe"]["path"] == "refuse"
        return self._served.refusal_finish_reason if refused and reason == "stop" else reason

    def _note(self, decided: Decided) -> None:
        self._presafe = {"presafe": self._served.presafe(decided).model_dump(mode="json")}

    def _usage(self) -> dict[str, Any]:
        completion = sum(finished.completion_tokens for finished in self._finished)
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self._prompt_tokens + completion,
            "completion_tokens_details": {
                "reasoning_tokens": sum(finished.reasoning_tokens for finished in self._finished)
            },
        }


def _json(body: dict[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))

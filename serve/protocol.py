"""OpenAI's chat completions: the request this endpoint takes, and its answers built with openai's own types."""

import json
import time
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.completion_usage import CompletionTokensDetails
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from presafe.gate import GateMode, Path
from serve.completion import Decided, Event, Finished, Sampling
from serve.text import Text

DEFAULT_TEMPERATURE, DEFAULT_TOP_P = 0.6, 0.95
"""What the R1 models' authors advise; greedy chains of thought tend to loop."""


def _form(value: Any) -> str:
    """Tag of a string or a list; in brackets, so that an error's field name can leave it out."""
    return "<list>" if isinstance(value, list) else "<string>"


class _Body(BaseModel):
    """Unknown fields are errors: one that changed the prompt or the decoding could tune the decision."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class TextPart(_Body):
    """A part of a message; only text."""

    type: Literal["text"]
    """Kind of the part."""
    text: str
    """Its text."""


Content = Annotated[
    Annotated[str, Tag("<string>")] | Annotated[list[TextPart], Tag("<list>")],
    Field(discriminator=Discriminator(_form)),
]
StopSequence = Annotated[str, Field(min_length=1)]
Stop = Annotated[
    Annotated[StopSequence, Tag("<string>")]
    | Annotated[list[StopSequence], Field(min_length=1, max_length=4), Tag("<list>")],
    Field(discriminator=Discriminator(_form)),
]


class ChatMessage(_Body):
    """One message. An assistant's carries no reasoning: what a client calls reasoning was not reasoned here."""

    role: Literal["system", "user", "assistant"]
    """Who speaks."""
    content: Content
    """What is said."""

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.text.strip():
            raise ValueError("the message's content is empty; give it some text")
        return self


class StreamOptions(_Body):
    """Options of a stream."""

    include_usage: bool = False
    """Whether a last chunk counts the tokens."""


class ChatRequest(_Body):
    """Body of POST /v1/chat/completions. temperature, top_p, seed and stop apply to Path B only."""

    model: str
    """Name of the served model."""
    messages: list[ChatMessage] = Field(min_length=1)
    """The conversation; the last message is the user's."""
    stream: bool = False
    """Whether the answer comes in chunks."""
    stream_options: StreamOptions | None = None
    """Only with `stream`."""
    max_tokens: int | None = Field(None, ge=1)
    """Most tokens of reasoning and answer together; the older name."""
    max_completion_tokens: int | None = Field(None, ge=1)
    """The same; the newer name."""
    temperature: float | None = Field(None, ge=0, le=2)
    """0 is greedy."""
    top_p: float | None = Field(None, ge=0, le=1)
    """Share of the probability to sample from."""
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    """The same seed and request sample the same."""
    stop: Stop | None = None
    """Up to four texts that end the answer."""
    n: Literal[1] | None = None
    """Answers a request; only one."""
    frequency_penalty: float | None = Field(None, ge=0, le=0)
    """Only 0."""
    presence_penalty: float | None = Field(None, ge=0, le=0)
    """Only 0."""
    user: str | None = None
    """The client's own; not used."""
    metadata: dict[str, str] | None = None
    """The client's own; not used."""

    @model_validator(mode="before")
    @classmethod
    def _is_unicode(cls, body: Any) -> Any:
        """JSON can escape half a surrogate pair, which no tokenizer and no response can encode."""
        try:
            json.dumps(body, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("found half a surrogate pair, which is no Unicode text; remove it") from error
        return body

    @field_validator("messages")
    @classmethod
    def _ends_with_user(cls, messages: list[ChatMessage]) -> list[ChatMessage]:
        if messages[-1].role != "user":
            raise ValueError(
                f"the last message is the {messages[-1].role}'s; it must be the user's (an answer cannot be begun)"
            )
        return messages

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("found stream_options without stream; set stream to true or leave stream_options out")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("found both max_tokens and max_completion_tokens; give one of them")
        return self

    @property
    def conversation(self) -> list[dict[str, str]]:
        return [{"role": message.role, "content": message.text} for message in self.messages]

    @property
    def token_limit(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, room: int) -> Sampling:
        """How to sample where `room` tokens can be generated."""
        return Sampling(
            max_tokens=room if self.token_limit is None else self.token_limit,
            temperature=DEFAULT_TEMPERATURE if self.temperature is None else self.temperature,
            top_p=DEFAULT_TOP_P if self.top_p is None else self.top_p,
            seed=self.seed,
            stop=[self.stop] if isinstance(self.stop, str) else self.stop or [],
        )


class PreSafe(BaseModel):
    """The `presafe` object of a response."""

    path: Path
    """`refuse` is Path A, without reasoning."""
    refuse_probability: float
    """The head's; null where it is not a number (a gate that is on then refuses)."""
    threshold: float
    """The gate's; it decides only where the gate is on."""
    gate: GateMode
    """Whether the gate is on."""


class Reply:
    """Builds the bodies that answer one request."""

    def __init__(self, model: str, prompt_tokens: int, threshold: float, gate: GateMode) -> None:
        self._prompt_tokens, self._threshold, self._gate = prompt_tokens, threshold, gate
        self._common = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def completion(self, events: Sequence[Event]) -> str:
        """The whole answer as JSON."""
        decided, *_, finished = events
        assert isinstance(decided, Decided)
        assert isinstance(finished, Finished)
        text = {
            channel: "".join(e.text for e in events if isinstance(e, Text) and e.channel == channel)
            for channel in ("reasoning", "answer")
        }
        message = {"role": "assistant", "content": text["answer"], "reasoning_content": text["reasoning"]}
        choice = {"index": 0, "message": message, "finish_reason": finished.finish_reason}
        body = {
            **self._common,
            "object": "chat.completion",
            "choices": [choice],
            "usage": self._usage(finished),
            "presafe": self._presafe(decided),
        }
        return ChatCompletion.model_validate(body).to_json(indent=None)

    def chunks(self, event: Event, decided: Decided, *, include_usage: bool) -> list[str]:
        """The chunks, as JSON, that tell a streaming client of one event."""
        presafe: dict[str, Any] = {"presafe": self._presafe(decided)}
        pending_usage: dict[str, Any] = {"usage": None} if include_usage else {}
        match event:
            case Decided():
                return [self._chunk({"role": "assistant", "content": ""}, **presafe, **pending_usage)]
            case Text(channel, text):
                field = "reasoning_content" if channel == "reasoning" else "content"
                return [self._chunk({field: text}, **pending_usage)]
            case Finished(finish_reason):
                last = self._chunk({}, finish_reason=finish_reason, **presafe, **pending_usage)
                usage = self._chunk(None, **presafe, usage=self._usage(event))
                return [last, usage] if include_usage else [last]

    def _chunk(self, delta: dict[str, str] | None, *, finish_reason: str | None = None, **extra: Any) -> str:
        """One chunk; without a delta it has no choice either."""
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
        body = {**self._common, "object": "chat.completion.chunk", "choices": choices, **extra}
        return ChatCompletionChunk.model_validate(body).to_json(indent=None)

    def _presafe(self, decided: Decided) -> dict[str, Any]:
        presafe = PreSafe(
            path=decided.path,
            refuse_probability=decided.refuse_probability,
            threshold=self._threshold,
            gate=self._gate,
        )
        return presafe.model_dump(mode="json")

    def _usage(self, finished: Finished) -> CompletionUsage:
        return CompletionUsage(
            prompt_tokens=self._prompt_tokens,
            completion_tokens=finished.completion_tokens,
            total_tokens=self._prompt_tokens + finished.completion_tokens,
            completion_tokens_details=CompletionTokensDetails(reasoning_tokens=finished.reasoning_tokens),
        )

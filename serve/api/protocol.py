"""OpenAI's chat completions: the request that this endpoint takes. What it does not know, it refuses."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from presafe.engines.streaming import Sampling
from serve.api.harmless import MESSAGE, PART, REQUEST, STREAM_OPTIONS, Harmless, present

DEFAULT_TEMPERATURE, DEFAULT_TOP_P = 0.6, 0.95
"""What the R1 models' authors advise; greedy chains of thought tend to loop."""
GREEDY_BELOW = 1e-5
"""A smaller temperature is greedy, as in vLLM: logits divided by next to nothing are no numbers any more."""
MOST_METADATA = 16
"""As OpenAI's."""
LONGEST_STOP = 256
"""Characters of a stop sequence: each new token of an answer is searched for its beginnings."""


def _form(value: Any) -> str:
    """Tag of a string or a list; in brackets, so that an error's field name can leave it out."""
    return "<list>" if isinstance(value, list) else "<string>"


class _Body(BaseModel):
    """Unknown fields are errors: one that changed the prompt or the decoding could tune the decision.

    But a field that is null or empty is absent, and so is one of OpenAI's where it changes nothing.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
    harmless: ClassVar[Harmless]
    """What is absent beside null and empty."""

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_absent(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return present(value, cls.harmless, *_names(cls))


@cache
def _names(body: type[_Body]) -> tuple[frozenset[str], frozenset[str]]:
    """The fields that a body must have, and all that it may have."""
    fields = body.model_fields
    return frozenset(name for name, field in fields.items() if field.is_required()), frozenset(fields)


class ContentPart(_Body):
    """A part of a message; only text, and an assistant's refusal that goes back."""

    harmless = PART
    type: Literal["text", "refusal"]
    """Kind of the part."""
    text: str | None = None
    """Its text."""
    refusal: str | None = None
    """The text of a refusal."""
    cache_control: dict[str, Any] | None = None
    """Dropped."""

    @property
    def said(self) -> str:
        return (self.text if self.type == "text" else self.refusal) or ""

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        if (self.refusal if self.type == "text" else self.text) is not None:
            raise ValueError(f"found text and refusal in one part; it is of type {self.type}")
        return self


Content = Annotated[
    Annotated[str, Tag("<string>")] | Annotated[list[ContentPart], Field(fail_fast=True), Tag("<list>")],
    Field(discriminator=Discriminator(_form)),
]
StopSequence = Annotated[str, Field(max_length=LONGEST_STOP)]
Stop = Annotated[
    Annotated[StopSequence, Tag("<string>")]
    | Annotated[list[StopSequence], Field(max_length=4, fail_fast=True), Tag("<list>")],
    Field(discriminator=Discriminator(_form)),
]


class ChatMessage(_Body):
    """One message, of which role and content alone reach the model.

    A client may send an answer back as it came, with fields that are empty or none of the model's business. Above all,
    `reasoning_content` is dropped: what a client calls reasoning was not reasoned here.
    """

    harmless = MESSAGE
    role: Literal["system", "developer", "user", "assistant"]
    """Who speaks; `developer` is the newer name of `system`."""
    content: Content
    """What is said; null or nothing of an assistant is an empty text."""
    type: Literal["text"] | None = None
    """What some clients put here."""
    name: str | None = None
    """Dropped."""
    id: str | None = None
    """Dropped."""
    reasoning_content: str | None = None
    """Dropped; an assistant's only."""
    reasoning: str | None = None
    """The same, by vLLM's name."""
    refusal: str | None = None
    """An assistant's: the text of a turn that has no other."""

    @property
    def text(self) -> str:
        text = self.content if isinstance(self.content, str) else "\n".join(part.said for part in self.content)
        return text if text.strip() else self.refusal or text

    @property
    def parts(self) -> int:
        return 1 if isinstance(self.content, str) else len(self.content)

    @model_validator(mode="before")
    @classmethod
    def _silent(cls, value: Any) -> Any:
        """An answer may have been cut off in its reasoning, or be a refusal alone."""
        if isinstance(value, Mapping) and value.get("role") == "assistant" and value.get("content") is None:
            return {**value, "content": ""}
        return value

    @model_validator(mode="after")
    def _of_its_role(self) -> Self:
        if self.role == "assistant":
            return self
        if self.role == "user" and not self.text.strip():
            raise ValueError("the message's content is empty; give it some text")
        own = {"reasoning_content": self.reasoning_content, "reasoning": self.reasoning, "refusal": self.refusal}
        for name, value in own.items():
            if value is not None:
                raise ValueError(f"found {name} in a message of the {self.role}; leave it out")
        if not isinstance(self.content, str) and any(part.type == "refusal" for part in self.content):
            raise ValueError(f"found a part of type refusal in a message of the {self.role}; leave it out")
        return self


class ResponseFormat(_Body):
    """Only free text."""

    harmless: ClassVar[Harmless] = {}
    type: Literal["text"]
    """Kind of the answer."""


class StreamOptions(_Body):
    """Options of a stream."""

    harmless = STREAM_OPTIONS
    include_usage: bool = False
    """Whether a last chunk counts the tokens."""


class ChatRequest(_Body):
    """Body of POST /v1/chat/completions. temperature, top_p, seed and stop apply to Path B only."""

    harmless = REQUEST
    model: str
    """Name of the served model."""
    messages: list[ChatMessage] = Field(min_length=1, fail_fast=True)
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
    """Up to four texts that end the answer; empty ones are none."""
    n: int | None = Field(None, ge=1)
    """Answers to the request; all take the one path that is decided."""
    frequency_penalty: float | None = Field(None, ge=0, le=0)
    """Only 0."""
    presence_penalty: float | None = Field(None, ge=0, le=0)
    """Only 0."""
    response_format: ResponseFormat | None = None
    """Only text."""
    logprobs: Literal[False] | None = None
    """Only false."""
    user: str | None = None
    """The client's own; not used."""
    metadata: dict[str, str] | None = None
    """The client's own; not used."""
    safety_identifier: str | None = None
    """The client's own; not used."""
    prompt_cache_key: str | None = None
    """The client's own; not used."""

    @field_validator("messages", mode="before")
    @classmethod
    def _bounded(cls, messages: Any, info: ValidationInfo) -> Any:
        """Count before anything is looked at. The context is the endpoint's Access, where there is one."""
        if info.context is not None and isinstance(messages, list) and len(messages) > info.context.max_messages:
            raise ValueError(
                f"found {len(messages)} messages; at most {info.context.max_messages}; shorten the conversation"
            )
        return messages

    @field_validator("messages")
    @classmethod
    def _ends_with_user(cls, messages: list[ChatMessage], info: ValidationInfo) -> list[ChatMessage]:
        if messages[-1].role != "user":
            raise ValueError(
                f"the last message is the {messages[-1].role}'s; it must be the user's (an answer cannot be begun)"
            )
        parts = sum(message.parts for message in messages)
        if info.context is not None and parts > info.context.max_parts:
            raise ValueError(f"found {parts} parts of messages; at most {info.context.max_parts}; join some of them")
        return messages

    @field_validator("metadata", mode="before")
    @classmethod
    def _few(cls, metadata: Any) -> Any:
        if isinstance(metadata, dict) and len(metadata) > MOST_METADATA:
            raise ValueError(f"found {len(metadata)} pairs; at most {MOST_METADATA}")
        return metadata

    @field_validator("stop", mode="before")
    @classmethod
    def _no_empty_stop(cls, stop: Any) -> Any:
        return [some for some in stop if some != ""] if isinstance(stop, list) else stop

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("found stream_options without stream; set stream to true or leave stream_options out")
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise ValueError("found both max_tokens and max_completion_tokens, which differ; give one of them")
        return self

    @property
    def conversation(self) -> list[dict[str, str]]:
        """What the model is shown; a system message without text is none."""
        role = {"developer": "system"}
        return [
            {"role": role.get(message.role, message.role), "content": message.text}
            for message in self.messages
            if message.role in ("user", "assistant") or message.text.strip()
        ]

    @property
    def token_limit(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, room: int) -> Sampling:
        """How to sample where `room` tokens can be generated."""
        temperature = DEFAULT_TEMPERATURE if self.temperature is None else self.temperature
        return Sampling(
            max_tokens=room if self.token_limit is None else self.token_limit,
            temperature=0 if temperature < GREEDY_BELOW else temperature,
            top_p=DEFAULT_TOP_P if self.top_p is None else self.top_p,
            seed=self.seed,
            stop=[self.stop] if isinstance(self.stop, str) else self.stop or [],
        )

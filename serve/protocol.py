"""OpenAI's chat completions: the request that this endpoint takes. What it does not know, it refuses."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from serve.engine import Sampling

DEFAULT_TEMPERATURE, DEFAULT_TOP_P = 0.6, 0.95
"""What the R1 models' authors advise; greedy chains of thought tend to loop."""
GREEDY_BELOW = 1e-5
"""A smaller temperature is greedy, as in vLLM: logits divided by next to nothing are no numbers any more."""


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
    Annotated[StopSequence, Tag("<string>")] | Annotated[list[StopSequence], Field(max_length=4), Tag("<list>")],
    Field(discriminator=Discriminator(_form)),
]


class ChatMessage(_Body):
    """One message, of which role and content alone reach the model.

    A client may send an answer back as it came, with fields that are empty or none of the model's business. Above all,
    `reasoning_content` is dropped: what a client calls reasoning was not reasoned here.
    """

    role: Literal["system", "developer", "user", "assistant"]
    """Who speaks; `developer` is the newer name of `system`."""
    content: Content
    """What is said."""
    type: Literal["text"] | None = None
    """What some clients put here."""
    reasoning_content: str | None = None
    """Dropped."""
    refusal: str | None = None
    """Dropped: an answer of ours that has one says the same in `content`."""
    annotations: None = None
    """Only null, like the other fields of OpenAI's answers below."""
    audio: None = None
    """Only null."""
    function_call: None = None
    """Only null."""
    tool_calls: None = None
    """Only null."""

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.text.strip() and self.role != "assistant":  # whose answer may have been cut off in its reasoning
            raise ValueError("the message's content is empty; give it some text")
        if self.role != "assistant" and self.reasoning_content is not None:
            raise ValueError(f"found reasoning_content in a message of the {self.role}; leave it out")
        return self


class ResponseFormat(_Body):
    """Only free text."""

    type: Literal["text"]
    """Kind of the answer."""


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
    """Up to four texts that end the answer; an empty list is none (lm-evaluation-harness sends one)."""
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
        """What the model is shown."""
        role = {"developer": "system"}
        return [{"role": role.get(message.role, message.role), "content": message.text} for message in self.messages]

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

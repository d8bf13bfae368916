"""Conversations: the turns before a user's last one, which is what is asked. A plain text has none before it."""

from collections.abc import Sequence
from typing import Literal, Protocol, TypedDict

Role = Literal["user", "assistant"]
"""Whose turn a conversation ends in."""


class Turn(TypedDict):
    """One message. The roles are `system`, which comes first if at all, then `user` and `assistant` in turn."""

    role: str
    content: str


class Prefill(TypedDict):
    """The beginning of the assistant's turn behind the last one: a think block with a thought, open, or closed and then
    with the beginning of the answer. No thought in a closed one is the empty block."""

    thought: str
    closed: bool
    answer: str


class Conversation(Protocol):
    """Ends in a user's turn, `text`; `earlier` are the turns before it."""

    @property
    def text(self) -> str: ...
    @property
    def earlier(self) -> Sequence[Turn]: ...


def messages(asked: Conversation, role: Role = "user") -> list[Turn]:
    """What a chat template renders; a guard model's takes one that ends in the answer that is to be judged."""
    return [*asked.earlier, {"role": role, "content": asked.text}]


def transcript(asked: Conversation) -> str:
    """The conversation as a reader sees it, a paragraph a turn; a single turn is its text alone."""
    return _paragraphs(messages(asked)) if asked.earlier else asked.text


def newest_first(asked: Conversation) -> str:
    """The transcript from its end, for a reader that cuts what is too long: the oldest turns go."""
    return _paragraphs(messages(asked)[::-1]) if asked.earlier else asked.text


def user_turns(turns: Sequence[Turn]) -> list[str]:
    """By which two conversations are alike: many have one system message in common, and answers are a model's."""
    return [turn["content"] for turn in turns if turn["role"] == "user"]


def joined(turns: Sequence[str]) -> str:
    """Turns of a user as one text."""
    return "\n\n".join(turns)


def said_to_users(earlier: Sequence[Turn]) -> list[str]:
    """The rest: system message and answers."""
    return [turn["content"] for turn in earlier if turn["role"] != "user"]


def _paragraphs(turns: Sequence[Turn]) -> str:
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)

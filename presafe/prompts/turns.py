"""What makes a row's messages a conversation: who speaks in turn, and what each turn says, checked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from presafe.conversation import Turn
from presafe.files import Problem
from presafe.files.values import missing, plain
from presafe.prompts.checks import characters, checked_text, forged, too_long
from presafe.thinking.split import Splitter
from presafe.thinking.tags import KNOWN, Tags

ROLES = {"developer": "system", "human": "user", "gpt": "assistant", "model": "assistant"}
"""Other names of the three roles."""
ROLE, CONTENT, REASONING = ("role", "from"), ("content", "value"), ("reasoning_content", "reasoning")
"""Fields of a message, by OpenAI's names and by ShareGPT's; of an assistant's thought by DeepSeek's and vLLM's."""


@dataclass(frozen=True)
class AssistantReply:
    """What an assistant said, its thought apart; `reasoning` is empty without one."""

    reasoning: str
    answer: str


@dataclass(frozen=True)
class ReadsMessages:
    """Makes turns of messages. `tags` are think tags beside those of published models; `attacks` lets forged control
    tokens pass, and what a suite's assistants said as it is."""

    max_characters: int
    tags: Sequence[Tags] = ()
    attacks: bool = False

    def prompt(self, messages: Any, system: Any = None) -> list[Turn] | Problem:
        """The turns up to the last one of a user, behind the text `system`, if any; answers without their thoughts."""
        read = self._read(messages, system)
        if isinstance(read, Problem):
            return read
        turns, _ = read
        return turns if turns[-1]["role"] == "user" else turns[:-1]

    def demonstration(self, messages: Any) -> tuple[list[Turn], AssistantReply] | Problem:
        """The turns before the assistant's last one, without earlier thoughts; its thought and answer."""
        read = self._read(messages)
        if isinstance(read, Problem):
            return read
        turns, reply = read
        if reply is None or turns[-1]["role"] != "assistant":
            return _no_conversation(turns)
        return turns[:-1], reply

    def _read(self, messages: Any, system: Any = None) -> tuple[list[Turn], AssistantReply | None] | Problem:
        """All turns, and the assistant's last reply."""
        found = listed(messages)
        if isinstance(found, Problem):
            return found
        found = found if missing(system) else [{"role": "system", "content": system}, *found]
        turns, reply = list[Turn](), None
        for message in found:
            role, content = _role(message), self._content(message)
            if isinstance(content, AssistantReply):
                reply, content = content, content.answer
            if isinstance(content, Problem):
                return content
            turns.append({"role": role, "content": content})
        roles = [turn["role"] for turn in turns]
        talk = roles[1:] if roles[:1] == ["system"] else roles
        if not talk or any(role != ("user", "assistant")[k % 2] for k, role in enumerate(talk)):
            return _no_conversation(turns)
        return too_long(sum(len(turn["content"]) for turn in turns), self.max_characters) or (turns, reply)

    def _content(self, message: Mapping[str, Any]) -> str | AssistantReply | Problem:
        role, content = _role(message), _text(next((message[name] for name in CONTENT if name in message), None))
        if role == "assistant" and not self.attacks:
            return self._reply(message, content)
        return checked_text(content, role, self.max_characters, attacks=self.attacks)

    def _reply(self, message: Mapping[str, Any], content: Any) -> AssistantReply | Problem:
        """A thought in a field of its own, or between the think tags of any model, and the answer."""
        if not isinstance(content, str):
            return Problem("no text", "no text in the assistant's content")
        thoughts = [message[name] for name in REASONING if not missing(message.get(name))]
        tags = next((t for t in (*self.tags, *KNOWN) if t.open in content or t.close in content), None)
        if tags is None:
            reply = AssistantReply("", content.strip())
        else:
            found = Splitter(tags, "in front", own_line=True).whole(content)
            if not found.closed:
                return Problem("unclosed thought", f"no {tags.close!r} behind {tags.open!r}")
            reply = AssistantReply(found.reasoning, found.answer)
        if thoughts and reply.reasoning:
            return Problem("two thoughts", "one in a field of its own, and one between think tags")
        if thoughts:
            reply = AssistantReply(str(thoughts[0]).strip(), reply.answer)
        if not reply.answer:
            return Problem("no answer", "nothing behind the thought" if reply.reasoning else "an empty answer")
        return next(filter(None, map(_unfit, (reply.reasoning, reply.answer))), reply)


def listed(messages: Any) -> list[Mapping[str, Any]] | Problem:
    """The messages, also where a table holds them as JSON."""
    if isinstance(messages, str) and messages.lstrip().startswith("["):
        try:
            messages = json.loads(messages)
        except ValueError as error:
            return Problem("no messages", f"no JSON ({error})")
    if not isinstance(messages, list) or not all(isinstance(message, Mapping) for message in messages):
        return Problem("no messages", f"no list of messages but {type(messages).__name__}")
    return messages


def _role(message: Mapping[str, Any]) -> str:
    role = plain(next((message[name] for name in ROLE if name in message), None))
    return ROLES.get(role, role)


def _text(content: Any) -> Any:
    """Parts of text as one text, as the endpoint joins them; another value as it is."""
    if isinstance(content, list) and all(isinstance(part, Mapping) and "text" in part for part in content):
        return "\n".join(str(part["text"]) for part in content)
    return content


def _no_conversation(turns: Sequence[Turn]) -> Problem:
    roles = ", ".join(turn["role"] or "nobody" for turn in turns) or "nobody"
    return Problem("no conversation", f"turns of {roles}: user and assistant in turn")


def _unfit(text: str) -> Problem | None:
    return characters(text) or forged(text)

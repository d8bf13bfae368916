"""What makes a row a demonstration: a conversation, what the assistant says next, and on which path."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from presafe.config import Demonstrations, PrefixSettings
from presafe.decision.rule import Path
from presafe.files import Problem
from presafe.files.values import missing, plain
from presafe.judges.prefixes import prefix_judge
from presafe.prompts.checks import characters, checked_text, forged
from presafe.records import Demonstration, prompt_id
from presafe.thinking.split import Splitter
from presafe.thinking.tags import KNOWN, Tags

REASONING = ("reasoning_content", "reasoning")
"""Fields of an assistant's message that hold its thought."""

refuses = prefix_judge(PrefixSettings())


@dataclass(frozen=True)
class Reply:
    """What an assistant said, its thought apart; `reasoning` is empty without one."""

    reasoning: str
    answer: str


@dataclass(frozen=True)
class ReadsRows:
    """Makes demonstrations of the fields of a source's rows. `tags` are think tags beside those of published models."""

    source: Demonstrations
    max_characters: int
    tags: Sequence[Tags] = ()

    def __call__(self, fields: Mapping[str, Any]) -> Demonstration | Problem:
        """Roles and contents up to the assistant's last turn, without earlier thoughts; its thought and answer."""
        messages = self._in_columns(fields) if self.source.in_columns else fields["messages"]
        conversation = self._conversation(messages)
        if isinstance(conversation, Problem):
            return conversation
        roles, contents, reply = conversation
        path = self._path(fields["demonstrates"], reply)
        signal = _probability(fields["refuse_probability"])
        if isinstance(path, Problem):
            return path
        if isinstance(signal, Problem):
            return signal
        reasoning = reply.reasoning if path == "think" else ""
        own = prompt_id(json.dumps([roles, contents, path, reasoning, reply.answer]))
        return Demonstration(own, self.source.name, roles, contents, reasoning, reply.answer, path, signal)

    def _in_columns(self, fields: Mapping[str, Any]) -> list[dict[str, Any]]:
        system = [] if missing(fields["system"]) else [{"role": "system", "content": fields["system"]}]
        reasoning = None if missing(fields["reasoning"]) else fields["reasoning"]
        last = {"role": "assistant", "content": fields["answer"], "reasoning": reasoning}
        return [*system, {"role": "user", "content": fields["prompt"]}, last]

    def _conversation(self, messages: Any) -> tuple[list[str], list[str], Reply] | Problem:
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            return Problem("no messages", f"no list of messages but {type(messages).__name__}")
        roles = [str(message.get("role")) for message in messages]
        turns = roles[1:] if roles[:1] == ["system"] else roles
        if not turns or len(turns) % 2 or any(role != ("user", "assistant")[k % 2] for k, role in enumerate(turns)):
            return Problem("no conversation", f"turns of {', '.join(roles) or 'nobody'}: user and assistant in turn")
        contents, reply = [], Reply("", "")
        for role, message in zip(roles, messages, strict=True):
            if role == "assistant":
                found = self._reply(message)
                if isinstance(found, Problem):
                    return found
                reply, content = found, found.answer
            else:
                checked = checked_text(message.get("content"), role, self.max_characters, attacks=False)
                if isinstance(checked, Problem):
                    return checked
                content = checked
            contents.append(content)
        return roles[:-1], contents[:-1], reply

    def _reply(self, message: Mapping[str, Any]) -> Reply | Problem:
        """A thought in a field of its own, or between the think tags of any model, and the answer."""
        content = message.get("content")
        if not isinstance(content, str):
            return Problem("no text", "no text in the assistant's content")
        thoughts = [message[name] for name in REASONING if not missing(message.get(name))]
        tags = next((t for t in (*self.tags, *KNOWN) if t.open in content or t.close in content), None)
        if tags is None:
            reply = Reply("", content.strip())
        else:
            found = Splitter(tags, "in front", own_line=True).whole(content)
            if not found.closed:
                return Problem("unclosed thought", f"no {tags.close!r} behind {tags.open!r}")
            reply = Reply(found.reasoning, found.answer)
        if thoughts and reply.reasoning:
            return Problem("two thoughts", "one in a field of its own, and one between think tags")
        if thoughts:
            reply = Reply(str(thoughts[0]).strip(), reply.answer)
        if not reply.answer:
            return Problem("no answer", "nothing behind the thought" if reply.reasoning else "an empty answer")
        return next(filter(None, map(_unfit, (reply.reasoning, reply.answer))), reply)

    def _path(self, value: Any, reply: Reply) -> Path | Problem:
        """Its column's, else the source's, else the one that the reply shows."""
        named = plain(value) or self.source.demonstrates
        if named == "refuse" or (named is None and not reply.reasoning and refuses(reply.answer, "stop") == "refuse"):
            return "refuse"
        if named in ("think", None) and reply.reasoning:
            return "think"
        if named == "think":
            return Problem("no reasoning", "no thought in a demonstration of Path B")
        if named is None:
            told = "no thought, and no refusal that the rules of judge `prefixes` see"
            return Problem("unclear path", f"{told}; set the source's demonstrates, or its column")
        return Problem("unknown path", f"demonstrates {value!r} is neither refuse nor think")


def user_turns(row: Demonstration) -> Iterable[str]:
    return (content for role, content in zip(row.roles, row.contents, strict=True) if role == "user")


def _unfit(text: str) -> Problem | None:
    return characters(text) or forged(text)


def _probability(value: Any) -> float | Problem | None:
    if missing(value):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = -1.0
    if isinstance(value, bool) or not 0 <= found <= 1:
        return Problem("no probability", f"refuse_probability {str(value)[:80]!r} is not in [0, 1]")
    return found

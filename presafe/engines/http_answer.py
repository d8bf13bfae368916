"""An answer of an OpenAI-compatible endpoint, whole or still growing, with its reasoning taken out."""

import json
import re
from dataclasses import dataclass, replace
from typing import Any, get_args

from presafe.decision.rule import PathTaken
from presafe.engines.engine import Completion
from presafe.engines.http_failure import FILTER_CODES, RequestError, of_body, utf8
from presafe.records import CotMode, FinishReason

TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
)
"""How models write a chain-of-thought that no parser of the endpoint takes out."""
BARE = ("</think>", "</seed:think>", "[/THINK]")
"""Closing tags that count without an opening one, which their templates write into the prompt."""
TURN = re.compile(r"<\|end\|><\|start\|>assistant\s*$|<\|(return|end)\|>\s*$")
"""Ends of a message that a server of a channel format leaves in its text."""

STOPPED = {"stop", "eos", "eos_token", "end_turn", "stop_sequence", "completed", "complete", "finished", "end", "done"}
CUT = {"length", "max_tokens", "model_length", "max_output_tokens", "max_completion_tokens"}
FILTERED = re.compile(rf"{FILTER_CODES.pattern}|^(safety|refusal|recitation|blocklist|spii|blocked)$", re.IGNORECASE)
BROKEN = re.compile(r"error|abort|cancel|insufficient_system_resource|timeout|overload", re.IGNORECASE)


@dataclass(frozen=True)
class Decision:
    """The `presafe` object of a reply (docs/serving.md)."""

    path: PathTaken
    refuse_probability: float | None
    gate: str


@dataclass(frozen=True)
class Answer:
    """`reasoning` is what the endpoint itself calls so; `content` may hold think tags where it has no such field.

    `refused` says that the endpoint calls the content a refusal. `finish_reason` is its own word, None before it came;
    `counted` says that `num_tokens` is its own count, `prompt_tokens` is that of what it read. `presafe` is what this
    project's endpoint says of its decision.
    """

    reasoning: str = ""
    content: str = ""
    refused: bool = False
    finish_reason: str | None = None
    num_tokens: int = 0
    counted: bool = False
    presafe: Decision | None = None
    prompt_tokens: int | None = None

    def grown(self, message: dict[str, Any], chunks: int = 0) -> "Answer":
        """With a message or a delta more; vLLM writes `reasoning`, others `reasoning_content` or parts of the content.

        A chunk with text counts as one token, until the endpoint says how many there were.
        """
        thought = message.get("reasoning_content") or message.get("reasoning") or message.get("reasoning_details")
        in_parts, content = _spoken(message.get("content"))
        refusal = _flat(message.get("refusal"))
        reasoning = _flat(thought) or in_parts
        return replace(
            self,
            reasoning=self.reasoning + reasoning,
            content=self.content + (content or refusal),
            refused=self.refused or bool(refusal),
            num_tokens=self.num_tokens + (chunks if reasoning or content or refusal else 0),
        )

    def finished(self, reason: str | None, num_tokens: int) -> "Answer":
        return replace(self, finish_reason=reason or self.finish_reason, num_tokens=num_tokens)

    def beginning(self, cot: CotMode) -> str | None:
        """The answer so far; None while this may still be reasoning, or is a refusal that says so by itself.

        An endpoint without a parser may leave out the opening tag, so with chain-of-thought on only a closing tag, or
        content behind reasoning, shows that the answer has begun.
        """
        if self.refused:
            return None
        thought = self._parts()
        begun = cot == "off" or thought.tagged or bool(self.reasoning)
        half_a_tag = any(tag.startswith(thought.answer) for pair in TAGS for tag in pair)
        return thought.answer if thought.closed and begun and not half_a_tag else None

    def completion(self, most: int) -> Completion:
        """The Completion of an answer of at most `most` tokens. Raises RequestError where its end is none."""
        reason = self._reason(most)
        if reason == "filtered":  # what the filter let through is no answer
            return Completion("", "", reason, self.num_tokens, prompt_tokens=self.prompt_tokens)
        thought = self._parts()
        if not thought.closed and reason != "decided":
            reason = "length"
        texts = (utf8(thought.reasoning), utf8(thought.answer))
        found = Completion(*texts, reason, self.num_tokens, prompt_tokens=self.prompt_tokens)
        if self.presafe is None:
            return found
        return replace(found, path=self.presafe.path, refuse_probability=self.presafe.refuse_probability)

    def _reason(self, most: int) -> FinishReason:
        said = str(self.finish_reason or "").lower()
        if said == "decided":
            return "decided"
        if FILTERED.search(said):
            return "filtered"
        if said in CUT:
            return "length"
        if said in STOPPED or not said:
            if not said and self.num_tokens >= most:
                return "length"
            return "refused" if self.refused else "stop"
        raise RequestError("passing" if BROKEN.search(said) else "prompt", f"finish reason {self.finish_reason}")

    def _parts(self) -> "_Parts":
        if self.reasoning:
            answer = _without_closing(self.content.strip())
            return _Parts(self.reasoning.strip(), answer, closed=bool(answer), tagged=False)
        content = self.content.lstrip()
        for opening, closing in TAGS:
            if content.startswith(opening):
                head, tag, tail = content.removeprefix(opening).partition(closing)
                return _Parts(TURN.sub("", head).strip(), _without_closing(TURN.sub("", tail)), bool(tag), tagged=True)
        for closing in BARE:
            head, tag, tail = content.partition(closing)
            if tag:
                return _Parts(head.strip(), _without_closing(tail), closed=True, tagged=True)
        return _Parts("", TURN.sub("", content).strip(), closed=True, tagged=False)


@dataclass(frozen=True)
class _Parts:
    """`closed`: the answer has begun. `tagged`: tags have parted it from the reasoning."""

    reasoning: str
    answer: str
    closed: bool
    tagged: bool


def whole_answer(text: str) -> Answer:
    """The answer in a response's body. Raises RequestError where it holds none, JSONDecodeError where it is cut off."""
    text = text.lstrip("\ufeff \r\n\t")
    if text.startswith(("data:", "event:", ": ")):
        return _unasked_stream(text)
    if not text.startswith("{"):
        raise RequestError("foreign", f"an answer that is no chat completion: {text[:80]!r}")
    return with_chunk(Answer(), json.loads(text), streamed=False)


def with_chunk(answer: Answer, body: dict[str, Any], *, streamed: bool) -> Answer:
    """`answer` with the first choice of a chunk, or of a whole body. Raises RequestError where that tells an error."""
    choices = body.get("choices")
    if body.get("error") or not choices or not isinstance(choices, list):
        problem = _no_choice(body)
        if not streamed or problem.meaning == "filtered" or body.get("error"):
            raise problem
    for choice in choices[:1] if isinstance(choices, list) else []:
        if not isinstance(choice, dict) or choice.get("error"):
            raise of_body(choice if isinstance(choice, dict) else body)
        message = choice.get("message") or choice.get("delta") or {"content": choice.get("text")}
        if not isinstance(message, dict):
            message = {"content": message}
        answer = answer.grown(message, chunks=1)
        answer = answer.finished(choice.get("finish_reason"), answer.num_tokens)
    if (decision := _decision(body.get("presafe"))) is not None:
        answer = replace(answer, presafe=decision)
    if (read := _counted(body, "prompt_tokens")) is not None:
        answer = replace(answer, prompt_tokens=read)
    if (tokens := _counted(body, "completion_tokens")) is not None:
        return replace(answer, num_tokens=tokens, counted=True)
    return answer


def _counted(body: dict[str, Any], name: str) -> int | None:
    usage = body.get("usage")
    tokens = usage.get(name) if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) and 0 <= tokens < 2**31 else None


def _decision(found: Any) -> Decision | None:
    if not isinstance(found, dict) or found.get("path") not in get_args(PathTaken):
        return None
    probability = found.get("refuse_probability")
    return Decision(found["path"], probability if isinstance(probability, float) else None, str(found.get("gate")))


def _unasked_stream(text: str) -> Answer:
    """The answer of a stream that nobody asked for."""
    answer = Answer()
    for line in text.split("\n"):
        data = line.strip().removeprefix("data:").strip()
        if line.startswith("data:") and data not in ("", "[DONE]"):
            answer = with_chunk(answer, json.loads(data), streamed=True)
    return answer


def _no_choice(body: dict[str, Any]) -> RequestError:
    """Why a body has no choice: an error, a filter that says so, or nobody knows."""
    if body.get("error") or body.get("detail") or body.get("message"):
        return of_body(body)
    said = json.dumps([value for key, value in body.items() if "filter" in key.lower() or "feedback" in key.lower()])
    if re.search(r'"filtered": true|block_?reason', said, re.IGNORECASE):
        return RequestError("filtered", "no choice: the prompt was filtered")
    return RequestError("passing", f"an answer without a choice: {json.dumps(body)[:200]}")


def _without_closing(text: str) -> str:
    """An answer without closing tags in front of it, which some models write twice."""
    text = text.strip()
    for _, closing in TAGS:
        while text.startswith(closing):
            text = text.removeprefix(closing).strip()
    return text


def _spoken(content: Any) -> tuple[str, str]:
    """Reasoning and text of a content, which may come in parts."""
    parts = content if isinstance(content, list) else [content]
    thoughts, texts = list[str](), list[str]()
    for part in parts:
        kind = str(part.get("type", "text")) if isinstance(part, dict) else "text"
        (thoughts if "think" in kind or "reason" in kind else texts).append(_flat(part))
    return "".join(thoughts), "".join(texts)


def _flat(value: Any) -> str:
    """All text in a part, however deep."""
    if isinstance(value, list):
        return "".join(map(_flat, value))
    if isinstance(value, dict):
        names = ("text", "thinking", "reasoning", "content", "refusal", "summary")
        return next((text for name in names if (text := _flat(value.get(name)))), "")
    return value if isinstance(value, str) else ""

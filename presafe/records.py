"""The nouns that cross a stage, one dataclass each, and the Arrow schema of each.

Ids are content hashes, so that every join, resume and dedupe is by id.
"""

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from presafe.conversation import Prefill, Turn
from presafe.decision.rule import GateMode, Path, PathTaken

Kind = Literal["harmful", "benign", "reasoning"]
Split = Literal["classifier", "align", "pool", "validation", "evaluate"]
Decision = Literal["refuse", "comply", "unscored"]
FinishReason = Literal["stop", "length", "decided", "refused", "filtered"]
"""`decided`: stopped where the first words had decided it. `refused`: an endpoint calls its answer a refusal.
`filtered`: the filter of its provider stopped the prompt or the answer."""
CotMode = Literal["on", "off"]
DecisionMode = Literal["greedy", "drawn"]
"""How the tokens up to the path are chosen: the most probable ones, as the endpoint does, or drawn like all others."""
ThoughtVerdict = Literal["harmful", "harmless", "none", "unscored"]
"""Of the thought before an answer to a harmful prompt; `none`: nothing was thought."""
OverlapForm = Literal["exact", "near", "contained"]
"""How a training prompt is like one of a suite: the same, nearly the same, one of the two inside the other."""


@dataclass(frozen=True)
class Prompt:
    """One query: a user's turn, and the turns before it (presafe/conversation.py), of which a plain text has none.

    `reference` is the checkable answer of a reasoning prompt; `cluster` is shared by near-duplicates, which are all in
    one split; `wrapper` names the jailbreak template around the query, None where there is none. Split `pool` has
    prompts that train the signal alone; split `evaluate` are the suites, in a file of their own.
    """

    prompt_id: str
    text: str
    kind: Kind
    source: str
    category: str | None
    reference: str | None
    split: Split
    cluster: str
    wrapper: str | None
    earlier: list[Turn] = field(default_factory=list)


@dataclass(frozen=True)
class SuiteOverlap:
    """A prompt of a suite that is like one that is trained on.

    `similarity` is Jaccard's of word shingles; None for form `contained`.
    """

    suite: str
    prompt_id: str
    source: str
    training_prompt_id: str
    form: OverlapForm
    similarity: float | None


@dataclass(frozen=True)
class TeacherAnswer:
    """What the teacher answered and decided: one row a prompt and sample.

    The answer of a `filtered` one is empty.
    """

    prompt_id: str
    sample: int
    answer: str
    finish_reason: FinishReason
    num_tokens: int
    decision: Decision
    judge: str


@dataclass(frozen=True)
class Trace:
    """The model's own CoT-ON answer to a benign or reasoning prompt."""

    prompt_id: str
    reasoning: str
    answer: str
    finish_reason: FinishReason
    num_tokens: int


@dataclass(frozen=True)
class Signal:
    """The safety decision signal p_j of one prompt: the classifier's P(refuse | query).

    `teacher_decision` is the majority of the teacher's samples, `teacher_refuse_share` the share of refusals among
    those that were scored; None where none was.
    """

    prompt_id: str
    refuse_probability: float
    teacher_decision: Decision
    teacher_refuse_share: float | None
    in_classifier_training: bool


@dataclass(frozen=True)
class Demonstration:
    """A ready demonstration of a source: a conversation, and what the model is to say next.

    `demonstrates` is its path; a refusal's `reasoning` is empty. `refuse_probability` is the signal that it brings.
    """

    prompt_id: str
    source: str
    messages: list[Turn]
    reasoning: str
    answer: str
    demonstrates: Path
    refuse_probability: float | None


@dataclass(frozen=True)
class Example:
    """One training sequence as token ids: CoT-ON prompt, completion on Path A or B, and its signal p_j.

    `completion` is empty where only the signal is trained, `refuse_probability` None where only the completion is.
    `weight` is that of its source: how often it is drawn.
    """

    prompt_id: str
    prompt: list[int]
    completion: list[int]
    path: Path
    refuse_probability: float | None
    weight: float = 1.0


@dataclass(frozen=True)
class EvalRecord:
    """One generated answer of one model under one condition, with its verdict.

    `attack` joins what the suite says of its prompts with the attack that they were asked under (evaluate/labels.py).
    `path` is the one that it took, by the endpoint's rule, with chain-of-thought on or by the gate; else None.
    `thought_verdict` is None where nobody reads thoughts: with chain-of-thought off, say, and on other suites.
    `harm_score` is StrongREJECT's, from 0 to 1, where the first grader of harm gives it.
    """

    suite: str
    prompt_id: str
    attack: str
    model: str
    cot: CotMode
    gate: GateMode
    sample: int
    decoding: str
    reasoning: str
    answer: str
    refused_before_cot: bool
    head_probability: float
    verdict: str
    judge: str
    num_tokens: int
    truncated: bool
    path: PathTaken | None = None
    thought_verdict: ThoughtVerdict | None = None
    harm_score: float | None = None


def prompt_id(text: str, earlier: Sequence[Turn] = ()) -> str:
    """Content hash of a prompt: 16 hex digits of SHA-256."""
    content = json.dumps([*earlier, text], ensure_ascii=False) if earlier else text
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def schema(record: type) -> pa.Schema:
    """The Arrow schema of a record class; a field is nullable exactly where its type admits None."""
    hints = typing.get_type_hints(record)
    return pa.schema([_field(one.name, hints[one.name]) for one in dataclasses.fields(record)])


def to_table(rows: list[Any], record: type) -> pa.Table:
    """Rows (instances of `record`) as an Arrow table with the record's schema."""
    return pa.Table.from_pylist([vars(row) for row in rows], schema=schema(record))


def _field(name: str, hint: Any) -> pa.Field:
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union  # the latter of a Literal
    nullable = union and type(None) in typing.get_args(hint)
    if nullable:
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    if typing.get_origin(hint) is Literal:
        hint = str
    if typing.get_origin(hint) is list:
        return pa.field(name, pa.list_(_ARROW[typing.get_args(hint)[0]]), nullable)
    return pa.field(name, _ARROW[hint], nullable)


_ARROW: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}
_ARROW |= {
    kind: pa.struct(
        [pa.field(name, _ARROW[hint], nullable=False) for name, hint in typing.get_type_hints(kind).items()]
    )
    for kind in (Turn, Prefill)
}

"""What makes a row a prompt: a conversation that ends in a user's turn, of a kind, with a reference or without."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from presafe.config import Source
from presafe.conversation import Turn
from presafe.files import Problem
from presafe.files.values import as_text, missing, plain
from presafe.graders import readable
from presafe.prompts.checks import characters, checked_text, holding
from presafe.prompts.choices import with_choices
from presafe.prompts.turns import ReadsMessages
from presafe.records import Kind

KINDS = get_args(Kind)


@dataclass(frozen=True)
class RawPrompt:
    """A row of a source, read and checked, before dedupe and split: a user's turn, and the turns before it.

    `question` is the text without what its source puts around it; None where that is nothing.
    """

    text: str
    kind: Kind
    category: str | None
    reference: str | None
    earlier: list[Turn] = field(default_factory=list)
    question: str | None = None


def checked_prompt(
    fields: dict[str, Any], source: Source, max_characters: int, *, attacks: bool
) -> RawPrompt | Problem:
    """The prompt in the fields of a row of `source`.

    `attacks` says that it is a suite: it lets forged control tokens pass, since attacks hold them, and its reasoning
    prompts need a reference.
    """
    turns = _turns(fields, source, max_characters, attacks=attacks)
    if isinstance(turns, Problem):
        return turns
    kind = _kind(fields["kind"], source)
    if isinstance(kind, Problem):
        return kind
    question, earlier = turns[-1]["content"], turns[:-1]
    category, reference = _optional(fields["category"]), _optional(fields["reference"])
    text = question
    if source.choices:
        choices = _choices(fields, source.choices, max_characters, attacks=attacks)
        if isinstance(choices, Problem):
            return choices
        text, reference = with_choices(question, choices)
    text = source.form.replace("{text}", text) if source.form else text
    if isinstance(category, Problem):
        return category
    if isinstance(reference, Problem):
        return reference
    for value in (category, reference):
        if value is not None and (problem := characters(value)):
            return problem
    if attacks and kind == "reasoning" and not readable(reference):
        return _unreadable(reference, str(source.columns.get("reference", "reference")))
    return RawPrompt(text, kind, category, reference, earlier, question if question != text else None)


def choice(number: int) -> str:
    """The field of one of a source's choices, counted from 0."""
    return f"choice {number}"


def _turns(fields: dict[str, Any], source: Source, max_characters: int, *, attacks: bool) -> list[Turn] | Problem:
    """The conversation; that of a text alone is one turn, behind its system message."""
    reads, system = ReadsMessages(max_characters, attacks=attacks), fields.get("system")
    if source.in_messages:
        return reads.prompt(fields["messages"], system)
    text = checked_text(fields["text"], str(source.columns.get("text", "text")), max_characters, attacks=attacks)
    if isinstance(text, Problem):
        return text
    turn: Turn = {"role": "user", "content": text}
    return [turn] if missing(system) else reads.prompt([turn], system)


def _choices(
    fields: dict[str, Any], columns: Sequence[str], max_characters: int, *, attacks: bool
) -> list[str] | Problem:
    found = list[str]()
    for number, column in enumerate(columns):
        value = fields[choice(number)]
        written = value if value is None or isinstance(value, dict | list) else as_text(value)
        text = checked_text(written, column, max_characters, attacks=attacks)
        if isinstance(text, Problem):
            return text
        found.append(text.strip())
    if len({*found}) < len(found):
        return Problem("choices alike", f"two of the choices in {', '.join(columns)} are the same")
    return found


def _kind(value: Any, source: Source) -> Kind | Problem:
    if missing(value):
        value = source.kind
    own: dict[str, Kind] = {kind: kind for kind in KINDS}
    known = own | {plain(name): kind for name, kind in source.kinds.items()}
    if plain(value) in known:
        return known[plain(value)]
    names = ", ".join(KINDS)
    return Problem("unknown kind", f"kind {value!r} is none of {names}; set the source's kind, its column or `kinds`")


def _unreadable(reference: str | None, column: str) -> Problem:
    """Why no answer to a suite's reasoning prompt could be graded."""
    if reference is None:
        return Problem("no reference", f"no reference in column {column!r}, so that no answer can be graded")
    return Problem("unreadable reference", f"the grader cannot read the reference {reference[:80]!r}")


def _optional(value: Any) -> str | Problem | None:
    if isinstance(value, dict | list):
        return Problem("no value", f"no value but {holding(value)}")
    return None if missing(value) else as_text(value).strip()

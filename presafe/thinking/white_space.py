"""What stands around thoughts, empty blocks and answers: what the template shows, else what R1 and Qwen3 write."""

import re
from dataclasses import dataclass

from presafe.thinking.control import any_of
from presafe.thinking.probes import ANSWER, PLAN, Probes
from presafe.thinking.tags import Tags


@dataclass(frozen=True)
class Seen:
    """The texts of a `ThinkFormat`."""

    block: str
    opening: str
    closing: str
    gap: str
    end_of_turn: str


@dataclass(frozen=True)
class Wrapped:
    """A thought as the template writes it: `before` the opening tag, `behind` it, from the thought to the answer."""

    before: str
    behind: str
    closing: str


def wrapped_thought(probes: Probes, tags: Tags) -> Wrapped | None:
    """How a finished turn shows its thought in `tags`; None where it does not."""
    header = _header(probes, tags)
    for turn in probes.thoughts:
        before, _, rest = turn.partition(PLAN)
        closing, answered, _ = rest.partition(ANSWER)
        front = before.rstrip()
        if answered and front.endswith(tags.open) and closing.strip() == tags.close:
            outside = front.removesuffix(tags.open)
            shown = outside.removeprefix(header) if outside.startswith(header) else ""
            return Wrapped(shown if not shown.strip() else "", before[len(front) :], closing)
    return None


def shows_block(probes: Probes, tags: Tags) -> bool:
    """Whether a finished turn shows its thought in `tags`, or, without a thought, an empty block."""
    in_front = _in_front_of_answer(probes, _header(probes, tags))
    return wrapped_thought(probes, tags) is not None or tags.empty.fullmatch(in_front) is not None


def seen_of(probes: Probes, tags: Tags, off: str | None) -> Seen | None:
    """All of it, given the template's CoT-OFF prompt; None where answers stand in a block of their own."""
    header = _header(probes, tags)
    opened = tags.opened.search(probes.prompt)
    plain = _in_front_of_answer(probes, header)
    if plain.replace(tags.open, "").replace(tags.close, "").strip():
        return None
    plain = plain if tags.close in plain else ""
    own = _own_block(off, tags, header) or plain
    shown = wrapped_thought(probes, tags) or _usual(tags, own, None if opened is None else opened[1])
    if opened is None:
        opening = f"{shown.before}{tags.open}{shown.behind}"
        block = own or opening + shown.closing
    else:
        opening = shown.behind.removeprefix(opened[1])
        # Behind a bare tag the model writes the line break itself: the paths part behind it, not at its token.
        usual = shown.closing if opened[1] else opening + shown.closing.lstrip()
        block = _rest_of(own, tags, opened[1]) if own else usual
    gap = _behind(plain, tags).removeprefix(_behind(own, tags)) if plain else ""
    return Seen(block, opening, shown.closing, gap, _end_of_turn(probes, tags))


def _header(probes: Probes, tags: Tags) -> str:
    """The CoT-ON prompt up to the think block."""
    opened = tags.opened.search(probes.prompt)
    return probes.prompt[: opened.start()] if opened else probes.prompt


def _in_front_of_answer(probes: Probes, header: str) -> str:
    """What a finished turn without a thought has between the header and the answer."""
    before, answered, _ = probes.plain.partition(ANSWER)
    return before.removeprefix(header) if answered and before.startswith(header) else ""


def _own_block(off: str | None, tags: Tags, header: str) -> str:
    """The empty block that the CoT-OFF prompt ends in, without the white space that belongs to the header."""
    found = tags.empty.search(off or "")
    return found[0].removeprefix(header[len(header.rstrip()) :]) if found else ""


def _rest_of(block: str, tags: Tags, written: str) -> str:
    """What is left to write of an empty block behind an opening tag and the white space `written` behind it."""
    inside = block.lstrip().removeprefix(tags.open)
    return inside.removeprefix(written) if inside.startswith(written) else inside.lstrip()


def _behind(block: str, tags: Tags) -> str:
    return block.rpartition(tags.close)[2]


def _usual(tags: Tags, own: str, written: str | None) -> Wrapped:
    """White space where the template shows no thought: none if its empty block has none, else line breaks.

    `written` is the white space behind the tag that the prompt has opened.
    """
    before = own.partition(tags.open)[0] if tags.open in own else ""
    if own and "\n" not in own and not written:
        return Wrapped(before, "", tags.close + _behind(own, tags))
    return Wrapped(before, written or "\n", f"\n{tags.close}{_behind(own, tags) or 2 * chr(10)}")


def _end_of_turn(probes: Probes, tags: Tags) -> str:
    """The text up to the control token that a finished turn ends in, else the one that the next turn begins with.

    Some families end a turn with the next one's header (GLM); a template that shows neither leaves it to the
    tokenizer. Empty where nothing is known.
    """
    tokenizer = probes.tokenizer
    control = {
        token for token in (*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens) if len(token.strip()) > 1
    }
    pattern = re.compile(rf"\s*(?:{any_of(control - {tags.open, tags.close}).pattern})")
    suffix = probes.plain.rpartition(ANSWER)[2] if ANSWER in probes.plain else ""
    for text in (suffix, probes.next_turn):
        if found := pattern.match(text):
            return found[0]
        if text.strip():
            break
    return tokenizer.eos_token or ""

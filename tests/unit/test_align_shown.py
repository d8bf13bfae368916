"""The prompts that a card shows: the run's own, short, held out, and one of each kind."""

from dataclasses import replace

from presafe.align.export.shown import LONGEST, shown_prompts
from presafe.records import Prompt, Signal

PLAIN = Prompt("", "text", "benign", "ours", None, None, "validation", "c", None)


def prompt(name: str, kind: str, **changes: object) -> Prompt:
    return replace(PLAIN, prompt_id=name, text=f"text of {name}", kind=kind, **changes)


def shown(*found: tuple[Prompt, float]) -> list[tuple[str, str]]:
    signals = {each.prompt_id: Signal(each.prompt_id, signal, "comply", None, False) for each, signal in found}
    return [(each.kind, each.text) for each in shown_prompts([each for each, _ in found], signals)]


def test_a_short_one_of_each_kind_and_a_benign_one_near_to_a_refusal():
    assert shown(
        (prompt("h2", "harmful"), 0.9),
        (prompt("h1", "harmful"), 0.8),
        (prompt("b1", "benign"), 0.1),
        (prompt("b2", "benign"), 0.2),
        (prompt("b3", "benign"), 0.4),
        (prompt("b4", "benign"), 0.3),
        (prompt("b5, longer", "benign"), 0.1),
        (prompt("b6, longer", "benign"), 0.45),
        (prompt("b7, longer", "benign"), 0.1),
        (prompt("b8, longer", "benign"), 0.1),
        (prompt("r1", "reasoning"), 0.0),
    ) == [
        ("reasoning", "text of r1"),
        ("benign", "text of b1"),
        ("benign", "text of b3"),
        ("harmful", "text of h1"),
    ]


def test_what_was_trained_on_wrapped_long_or_misjudged_is_not_shown():
    assert not shown(
        (prompt("a", "harmful", split="align"), 0.9),
        (prompt("b", "harmful", wrapper="story"), 0.9),
        (replace(prompt("c", "harmful"), text="x" * (LONGEST + 1)), 0.9),
        (replace(prompt("d", "harmful"), text="two\nlines"), 0.9),
        (prompt("e", "harmful"), 0.1),
        (prompt("f", "benign"), 0.9),
    )


def test_a_run_without_a_kind_shows_the_others():
    assert shown((prompt("h", "harmful"), 1.0)) == [("harmful", "text of h")]
    assert shown((prompt("b", "benign"), 0.1)) == [("benign", "text of b")]
    assert shown() == []

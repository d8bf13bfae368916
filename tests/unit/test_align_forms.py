"""Training prompts in other forms: what a copy takes of its prompt, limits, signal pool, validation, configs."""

from collections import Counter
from dataclasses import replace

import pytest

from chosen_examples import chosen_examples
from presafe.align.examples.candidates import Sources, validation_examples
from presafe.align.examples.forms import Forms
from presafe.align.stage import parts
from presafe.config import Align, load_config
from presafe.conversation import messages
from presafe.errors import UserError
from presafe.records import Example, Prompt, Signal, TeacherAnswer, Trace
from presafe.thinking import ThinkFormat, think_format
from tiny_tokenizer import QWEN3, tiny_tokenizer

FORMS = [
    {"kind": "benign_sentence", "sentences": ["a kite ."], "kinds": ["harmful", "benign", "reasoning"]},
    {"kind": "benign_sentence", "name": "earlier", "place": "earlier", "sentences": ["a lamp ."], "reply": "ok ."},
    {"kind": "go_on", "reply": "yes .", "last": "go on .", "kinds": ["benign"]},
]
KINDS = {"h": "harmful", "b": "benign", "r": "reasoning"}
NAMES = [f"{kind}{k}" for kind in "hbr" for k in range(4)]


def prompt(name: str, split: str = "align") -> Prompt:
    return Prompt(name, f"please add {name}", KINDS[name[0]], "s", None, None, split, name, None)


PROMPTS = [*map(prompt, NAMES), prompt("h8", "pool")]
SOURCES = Sources(
    {n: TeacherAnswer(n, 0, f"no {n}", "stop", 3, "refuse", "t") for n in NAMES if n[0] == "h"},
    {n: Trace(n, f"i add {n}", f"it is {n}", "stop", 9) for n in NAMES if n[0] != "h"},
    {p.prompt_id: Signal(p.prompt_id, k / 100, "refuse", None, False) for k, p in enumerate(PROMPTS)},
)


@pytest.fixture(scope="module")
def think() -> ThinkFormat:
    return think_format(tiny_tokenizer(QWEN3))


def align(**settings: object) -> Align:
    return Align.model_validate({"micro_batch_tokens": 200, "signal_batch_size": 2, "forms": FORMS, **settings})


def made(think: ThinkFormat, seed: int = 0, **settings: object) -> tuple[dict[str, list[Example]], Counter[str]]:
    """Examples by prompt, and what was left out."""
    found, skipped = chosen_examples(PROMPTS, SOURCES, think, align(**settings), seed)
    return {name: [row for row in found if row.prompt_id == name] for name in [*NAMES, "h8"]}, skipped


def expected(think: ThinkFormat, name: str) -> set[tuple[int, ...]]:
    """Prompts as token ids, plain and in each form of its kind."""
    text = f"please add {name}"
    user = lambda said: {"role": "user", "content": said}  # noqa: E731
    assistant = lambda said: {"role": "assistant", "content": said}  # noqa: E731
    asked = [[user(text)], [user(f"a kite . {text}")]]
    if name[0] != "r":
        asked.append([user("a lamp ."), assistant("ok ."), user(text)])
    if name[0] == "b":
        asked.append([user(text), assistant("yes ."), user("go on .")])
    return {tuple(think.prompt_ids(turns)) for turns in asked}


def test_a_copy_is_asked_in_its_form_and_takes_decision_demonstration_and_signal_of_its_prompt(think):
    found, skipped = made(think)
    assert not skipped
    for name, rows in found.items():
        assert {tuple(row.prompt) for row in rows} == expected(think, name)
        assert len(rows) == len(expected(think, name))
        plain = min(rows, key=lambda row: len(row.prompt))
        assert {(tuple(r.completion), r.path, r.refuse_probability, r.weight) for r in rows} == {
            (tuple(plain.completion), plain.path, SOURCES.signals[name].refuse_probability, 1.0)
        }
        assert bool(plain.completion) == (name != "h8"), "a prompt of the pool has copies there"


def test_each_prompt_is_asked_in_so_many_drawn_forms(think):
    found, _ = made(think, forms_per_prompt=1)
    assert {name: len(rows) for name, rows in found.items()} == dict.fromkeys(found, 2)
    drawn = {tuple(tuple(row.prompt) for rows in made(think, seed, forms_per_prompt=1)[0].values() for row in rows)
             for seed in (0, 0, 1, 2)}  # fmt: skip
    assert len(drawn) == 3, "by the seed"


def test_limits_count_prompts_and_take_or_leave_their_copies(think):
    plain, _ = chosen_examples(PROMPTS, SOURCES, think, align(forms=[], max_refuse_examples=2, max_think_examples=3), 0)
    demonstrated = {row.prompt_id for row in plain if row.completion}
    assert len(demonstrated) == 5
    found, _ = made(think, max_refuse_examples=2, max_think_examples=3)
    for name, rows in found.items():
        assert len(rows) == len(expected(think, name))
        assert all(bool(row.completion) == (name in demonstrated) for row in rows)


def test_a_copy_that_does_not_fit_costs_itself_alone(think):
    longest = max(len(ids) for name in NAMES for ids in expected(think, name)) + 60
    short = {"kind": "padding", "words": 300, "sentences": ["a kite ."]}
    found, skipped = made(think, forms=[*FORMS, short], micro_batch_tokens=longest)
    assert {name: len(rows) for name, rows in found.items()} == {n: len(expected(think, n)) for n in found}
    assert skipped == {"copies in other forms: longer than align.micro_batch_tokens": 9}


def test_a_validation_prompt_is_asked_once_as_it_is_or_in_a_form(think):
    names = [f"b{k}" for k in range(400)]
    rows = [prompt(name, "validation") for name in names]
    signals = {name: Signal(name, 0.1, "comply", None, False) for name in names}
    asked = [*validation_examples(rows, signals, think, 200, Counter(), Forms.of(align(), 0))]
    assert [row.prompt_id for row in asked] == names
    plain = sum(row.prompt == think.prompt_ids(messages(own)) for row, own in zip(asked, rows, strict=True))
    assert 60 < plain < 140, "one of four"
    assert {len(row.completion) for row in asked} == {0}
    as_they_are = [*validation_examples(rows, signals, think, 200, Counter(), Forms())]
    assert all(row.prompt == think.prompt_ids(messages(own)) for row, own in zip(as_they_are, rows, strict=True))


def test_a_copy_keeps_the_turns_before_its_prompt():
    behind = replace(prompt("h0"), earlier=[{"role": "system", "content": "be brief"}])
    assert all(copy.earlier[0] == behind.earlier[0] for copy in Forms.of(align(), 0).copies(behind))


DEMO = "configs/demo.yaml"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["align.forms=[{kind: prefill}]"], "form prefill begins the assistant's turn"),
        (["align.forms=[{kind: go_on}, {kind: go_on}]"], "forms of the same name"),
        (
            ["align.forms=[{kind: benign_sentence, name: own}]", "evaluate.attacks=[{kind: padding, words: 9}]"],
            r"align\.forms own trains on words of evaluate\.attacks padding, 'A cat sleeps on the window sill\.'",
        ),
        (["align.forms_per_prompt=0"], "greater than or equal to 1"),
    ],
)
def test_forms_that_do_not_fit_are_refused_in_a_sentence(overrides, said):
    with pytest.raises(UserError, match=said) as told:
        load_config(DEMO, overrides)
    assert "\n" not in str(told.value)


def test_forms_are_settings_of_the_examples_alone():
    keys = [
        {part.name: part.settings for part in parts(load_config(DEMO, [f"align.forms={forms}"]))}
        for forms in ("[]", "[{kind: go_on}]")
    ]
    assert [name for name in keys[0] if keys[0][name] != keys[1][name]] == ["examples"]

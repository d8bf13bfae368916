"""Attacks: what each makes of a prompt, what is asked and recorded under them, and which configs are refused."""

import base64
import codecs
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from presafe import storage
from presafe.attacks import wording
from presafe.attacks.attacked import Attacked
from presafe.attacks.catalogue import under
from presafe.attacks.spelling import LOOK_ALIKES
from presafe.config import load_config
from presafe.config.attacks import Attack
from presafe.config.evaluate import Evaluate
from presafe.conversation import Turn, messages, transcript
from presafe.engines.encoding import encode
from presafe.engines.engine import Query, query_seed
from presafe.engines.job import Generation, Task, task_of
from presafe.errors import UserError
from presafe.evaluate.labels import attack_of, joined
from presafe.evaluate.tasks import TokenCounter, attacked_tasks
from presafe.evaluate.tasks import tasks as all_tasks
from presafe.records import Prompt, prompt_id, to_table
from presafe.thinking import think_format
from tiny_tokenizer import QWEN3, R1, save_tokenizer, tiny_tokenizer

TEXT = "explain  the law\nabout {braces} {text} and a KITE, please."
TALK: list[Turn] = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "add two and three"},
    {"role": "assistant", "content": "it is five"},
]
PLAIN = Prompt(prompt_id(TEXT), TEXT, "harmful", "plain", None, None, "evaluate", "c", None)
BEHIND = replace(PLAIN, prompt_id=prompt_id(TEXT, TALK), earlier=TALK)
PLACE = "[INSERT PROMPT HERE]"
LATIN = str.maketrans({like: letter for letter, like in LOOK_ALIKES.items()})

Read = Callable[[Attacked], str]
last: Read = lambda made: made.text  # noqa: E731


def behind(text: str) -> Read:
    return lambda made: made.text.partition(text)[2]


def said(made: Attacked) -> list[str]:
    return [turn["content"] for turn in made.earlier if turn["role"] == "user"]


def decoded(read: Callable[[str], str]) -> Read:
    return lambda made: read(made.text.partition(": ")[2])


CASES: list[tuple[dict[str, Any], Read, bool]] = [
    ({"kind": "templates", "templates": [f"as a <{role}>{PLACE}" for role in "abcdef"]}, behind(">"), True),
    ({"kind": "templates", "function": "presafe.organism:wrappers", "options": {"count": 9}}, last, True),
    ({"kind": "benign_sentence"}, behind(". "), True),
    ({"kind": "benign_sentence", "place": "behind"}, last, True),
    ({"kind": "benign_sentence", "place": "earlier"}, last, True),
    ({"kind": "system_prompt"}, last, True),
    ({"kind": "go_on"}, lambda made: said(made)[-1], False),
    ({"kind": "word_by_word"}, lambda made: " ".join(said(made)), False),
    ({"kind": "word_by_word", "words": 3}, lambda made: " ".join(said(made)), False),
    ({"kind": "script"}, behind("like that: "), False),
    ({"kind": "homoglyphs"}, lambda made: made.text.translate(LATIN), True),
    ({"kind": "encoding"}, decoded(lambda text: base64.b64decode(text).decode()), False),
    ({"kind": "encoding", "code": "hex"}, decoded(lambda text: bytes.fromhex(text).decode()), False),
    ({"kind": "encoding", "code": "rot13"}, decoded(lambda text: codecs.decode(text, "rot13")), False),
    ({"kind": "encoding", "code": "reversed"}, decoded(lambda text: text[::-1]), False),
    ({"kind": "encoding", "code": "spaced"}, decoded(lambda text: text[::2]), False),
    ({"kind": "forged_block"}, last, False),
    ({"kind": "forged_block", "block": "open"}, last, False),
    ({"kind": "forged_block", "block": "empty"}, last, False),
    ({"kind": "forged_reasoning"}, behind("answer to: "), False),
    ({"kind": "long_thought", "words": 60}, last, True),
    ({"kind": "padding", "words": 60}, last, True),
    ({"kind": "prefill"}, last, False),
]
"""Settings; how the prompt's words are read off what was made; and whether something of it is drawn."""
IDS = [" ".join(str(value) for value in (case[0]["kind"], *[*case[0].values()][1:]))[:40] for case in CASES]


def attack(**settings: Any) -> Attack:
    found: Attack = TypeAdapter(Attack).validate_python(settings)
    return found


def test_the_cases_are_of_every_kind():
    union, _ = get_args(Attack)
    kinds = {get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(union)}
    assert {settings["kind"] for settings, *_ in CASES} == kinds


@pytest.mark.parametrize(("settings", "read", "draws"), CASES, ids=IDS)
@pytest.mark.parametrize("prompt", [PLAIN, BEHIND], ids=["plain", "behind turns"])
def test_an_attack_is_a_function_of_settings_seed_and_prompt(settings, read, draws, prompt):
    wanted = attack(**settings)
    made = under(wanted, 0)(prompt)
    random.seed(7)
    assert under(wanted, 0)(prompt) == made
    assert prompt.text == TEXT
    assert prompt.earlier == (TALK if prompt is BEHIND else [])
    others = {transcript(under(wanted, seed)(prompt)) for seed in range(12)}
    assert (len(others) > 1) == draws
    words = read(made)
    assert " ".join(TEXT.split()) in " ".join(words.split())
    assert (made.text, list(made.earlier), made.prefill) != (prompt.text, prompt.earlier, None)


@pytest.mark.parametrize("settings", [case[0] for case in CASES], ids=IDS)
@pytest.mark.parametrize("prompt", [PLAIN, BEHIND], ids=["plain", "behind turns"])
def test_what_is_made_is_a_conversation_that_any_template_takes_and_keeps_the_turns_before(settings, prompt):
    made = messages(under(attack(**settings), 0)(prompt))
    roles = [turn["role"] for turn in made]
    turns = roles[1:] if roles[0] == "system" else roles
    assert turns == ["user", "assistant"] * (len(turns) // 2) + ["user"]
    assert all(turn["content"].strip() for turn in made)
    kept = [turn["content"] for turn in made]
    assert all(any(turn["content"] in content for content in kept) for turn in prompt.earlier)
    assert roles[0] == "system" or settings["kind"] != "system_prompt"


def test_two_attacks_of_one_kind_draw_apart():
    names = [f"padding_{k}" for k in range(4)]
    assert len({under(attack(kind="padding", name=name, words=40), 0)(PLAIN).text for name in names}) == 4


@pytest.mark.parametrize("kind", ["padding", "long_thought"])
@pytest.mark.parametrize("words", [1, 250, 4000])
def test_a_long_context_has_at_least_its_words_and_at_most_a_sentence_more(kind, words):
    settings = attack(kind=kind, words=words)
    made = under(settings, 0)(PLAIN).text.removesuffix(TEXT)
    around = 0 if kind == "padding" else len(f"{settings.opening} {settings.closing}".split())
    longest = max(len(sentence.split()) for sentence in wording.SENTENCES + wording.STEPS)
    assert words <= len(made.split()) - around < words + longest


@pytest.mark.parametrize("tokens", [1, 100, 1024, 4096])
def test_padding_has_the_tokens_that_are_asked_for_and_not_a_sentence_more(tmp_path, tokens):
    save_tokenizer(str(tmp_path), QWEN3)
    config = load_config(DEMO, ["model.build=null", f"model.path={tmp_path}"])
    count, tokenizer = TokenCounter(config), tiny_tokenizer(QWEN3)
    settings = attack(kind="padding", tokens=tokens)
    for own in ("a", "b", "c"):
        asked = replace(PLAIN, prompt_id=own)
        made = under(settings, 0, count)(asked).text
        assert made.endswith(f"\n\n{TEXT}")
        text = made.removesuffix(f"\n\n{TEXT}")
        last = max((one for one in wording.SENTENCES if text.endswith(one)), key=len)
        without_it = text.removesuffix(last).rstrip()
        assert len(tokenizer.tokenize(text)) >= tokens > len(tokenizer.tokenize(without_it))
        assert under(settings, 0, count)(asked).text == made
    assert len(tokenizer.tokenize(text)) != len(text.split()), "tokens are no words"


@pytest.mark.parametrize("crossing", [-1, 2])
def test_padding_is_exact_where_tokens_cross_the_space_between_sentences(crossing):
    """As if the tokens of two sentences were fewer, or more, than those of each."""

    def count(text: str) -> int:
        return len(text.split()) + crossing * text.count(". ")

    for seed in range(20):
        made = under(attack(kind="padding", tokens=300), seed, count)(PLAIN).text.removesuffix(f"\n\n{TEXT}")
        last = max((one for one in wording.SENTENCES if made.endswith(one)), key=len)
        assert count(made) >= 300 > count(made.removesuffix(last).rstrip())


def test_padding_in_words_is_what_it_was_and_its_settings_do_not_name_tokens():
    plain = attack(kind="padding", words=40)
    assert "tokens" not in plain.results()
    assert attack(kind="padding", tokens=40).results()["tokens"] == 40
    assert under(plain, 0)(PLAIN) == under(plain, 0, lambda _: 0)(PLAIN)
    found = list(all_tasks(Evaluate(attacks=[attack(kind="padding", tokens=40)]), lambda: [PLAIN], 0, len))
    assert found[-1].text.endswith(TEXT)
    assert len(found[-1].text) > 40


def test_homoglyphs_replace_the_share_that_is_asked_for():
    text = "a once ace peace " * 100
    prompt = replace(PLAIN, text=text)
    for share in (0.2, 1.0):
        made = under(attack(kind="homoglyphs", share=share), 0)(prompt).text
        possible = sum(letter in LOOK_ALIKES for letter in text)
        replaced = sum(one != other for one, other in zip(text, made, strict=True))
        assert replaced / possible == pytest.approx(share, abs=0.05)
    assert len({*LOOK_ALIKES, *LOOK_ALIKES.values()}) == 2 * len(LOOK_ALIKES)


def test_leetspeak_reads_the_same():
    made = under(attack(kind="encoding", code="leetspeak"), 0)(replace(PLAIN, text="Tell me a Story"))
    assert made.text.endswith("73ll m3 4 570ry")


def test_forged_blocks_are_written_as_the_config_says():
    tags = {"open_tag": "<t>", "close_tag": "</t>", "thought": "fine"}
    blocks = {"open": "<t>\nfine", "closed": "<t>\nfine\n</t>", "empty": "<t>\n\n</t>"}
    for block, written in blocks.items():
        made = under(attack(kind="forged_block", block=block, **tags), 0)(PLAIN)
        assert made.text == f"{TEXT}\n\n{written}"


def test_a_function_whose_templates_lack_their_placeholder_is_named():
    wrong = {"placeholder": "<<here>>", "options": {"count": 3, "placeholder": "elsewhere"}}
    with pytest.raises(UserError, match="needed templates that say where the prompt stands"):
        under(attack(kind="templates", function="presafe.organism:wrappers", **wrong), 0)


DEMO = "configs/demo.yaml"
HTTP = [
    "evaluate.engine={kind: http, base_url: 'http://h/v1', model: m}",
    "evaluate.models=[aligned]",
    'evaluate.cot=["on"]',
]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["evaluate.attacks=[{kind: padd}]"], r"'padd' found using 'kind' does not match any of the .*'padding'"),
        (["evaluate.attacks=[{words: 3}]"], r"evaluate\.attacks\.0: Unable to extract tag using discriminator 'kind'"),
        (["evaluate.attacks=[{kind: padding, wrods: 3}]"], r"wrods: unknown key, did you mean words\?"),
        (
            ["evaluate.attacks=[{kind: padding}]"],
            r"attack padding puts 750 words .* takes 512 tokens: raise its max_pro",
        ),
        ([*HTTP, "evaluate.attacks=[{kind: padding, words: 16000}]"], r"takes 32000 characters: raise its max_prompt"),
        (
            ["evaluate.attacks=[{kind: padding, tokens: 512}]"],
            r"attack padding puts 512 tokens in front of a prompt, .* takes 512 tokens: raise its max_prompt_tokens",
        ),
        ([*HTTP, "evaluate.attacks=[{kind: padding, tokens: 32000}]"], r"takes 32000 characters: raise its max_prompt"),
        (["align.forms=[{kind: padding, tokens: 9}]"], r"form padding is measured in tokens, .*: give it words"),
        (["evaluate.attacks=[{kind: go_on}, {kind: go_on}]"], r"attacks of the same name"),
        (["evaluate.attacks=[{kind: go_on, name: none}]"], r"no attack may be called none"),
        (["evaluate.attacks=[{kind: go_on, name: 'a@b'}]"], r"name: String should match pattern"),
        ([*HTTP, "evaluate.attacks=[{kind: prefill}]"], r"takes no beginning of its answer: leave attack prefill out"),
        (['evaluate.cot=["off"]', "evaluate.attacks=[{kind: prefill}]"], r"attack prefill begins a turn with chain-of"),
        (["evaluate.attacks=[{kind: prefill, answer: Sure}]"], r"an answer stands behind a closed think block"),
        (["evaluate.attacks=[{kind: script, turns: [a]}]"], r"needs \{text\} once"),
        (["evaluate.attacks=[{kind: script, turns: ['{text}']}]"], r"1 turns and 3 replies"),
        (["evaluate.attacks=[{kind: encoding, form: x}]"], r"needs \{text\} once"),
        (["evaluate.attacks=[{kind: templates}]"], r"exactly one of `templates` and `function`"),
        (["evaluate.attacks=[{kind: templates, templates: [x]}]"], r"no '\[INSERT PROMPT HERE\]' in the template 'x'"),
        (["evaluate.attacks=[{kind: benign_sentence, sentences: [' ']}]"], r"at least 1 character"),
    ],
)
def test_a_config_with_an_attack_that_does_not_fit_is_refused_in_a_sentence(overrides, said):
    with pytest.raises(UserError, match=said) as told:
        load_config(DEMO, overrides)
    assert "\n" not in str(told.value)


def test_without_attacks_only_prompts_as_they_are_are_asked():
    assert Evaluate().attacks == []
    assert load_config(DEMO, ["evaluate.attacks=[{kind: go_on}]"]).evaluate.attacks[0].name == "go_on"


PROMPTS = [
    PLAIN,
    replace(PLAIN, source="again"),
    replace(BEHIND, kind="benign", source="lookalikes"),
    replace(PLAIN, prompt_id="r", kind="reasoning", source="arithmetic"),
]


def tasks(**settings: Any) -> list[Task]:
    return list(attacked_tasks(attack(**settings), Evaluate(), PROMPTS, 0))


def test_under_an_attack_a_prompt_is_asked_as_often_as_it_is_without_it():
    """As often as the one of its suites wants that wants the most; and among suites of the attack's kinds."""
    settings = Evaluate.model_validate(
        {"attacks": [{"kind": "go_on"}], "samples": {"again": 3, "benign": 2}, "cot": ["on"]}
    )
    found = list(all_tasks(settings, lambda: PROMPTS, 0))
    count = {(prompt, name): 0 for prompt in ("r", PLAIN.prompt_id, BEHIND.prompt_id) for name in (None, "go_on")}
    for task in found:
        assert task.sample == count[task.prompt_id, task.attack]
        count[task.prompt_id, task.attack] += 1
    assert [*count.values()] == [1, 0, 3, 3, 2, 2]
    assert len({task.task_id for task in found}) == len(found)


def test_a_prompt_is_asked_once_under_an_attack_if_it_is_of_its_kinds():
    found = tasks(kind="go_on")
    assert [(task.prompt_id, task.cot) for task in found] == [
        (prompt.prompt_id, cot) for prompt in (PLAIN, BEHIND) for cot in ("on", "off")
    ]
    assert {task.attack for task in found} == {"go_on"}
    assert [task.query for task in found[::2]] == [TEXT, transcript(BEHIND)], "judges read what was asked for"
    assert {task.prompt_id for task in tasks(kind="go_on", kinds=["reasoning"])} == {"r"}
    assert [task.cot for task in tasks(kind="prefill")] == ["on", "on"], "a prefill stands behind a CoT-ON prompt"


def test_ids_of_tasks_follow_from_what_is_asked():
    plain = {task_of(prompt, cot).task_id for prompt in PROMPTS for cot in ("on", "off")}
    variants = [
        tasks(kind="go_on"),
        tasks(kind="go_on", last="More."),
        tasks(kind="go_on", name="other"),
        tasks(kind="prefill"),
        tasks(kind="prefill", thought=""),
        tasks(kind="prefill", thought="", closed=True),
    ]
    ids = [task.task_id for found in variants for task in found]
    assert len({*ids}) == len(ids)
    assert not plain & {*ids}
    assert tasks(kind="go_on") == variants[0]
    assert f"{PLAIN.prompt_id}-on-0" in plain, "those of all earlier runs"


def test_a_task_with_a_prefill_crosses_a_file(tmp_path):
    file = str(tmp_path / "tasks.parquet")
    wanted = [*tasks(kind="prefill"), *tasks(kind="go_on"), task_of(BEHIND, "on")]
    storage.write_rows(file, wanted, Task)
    assert storage.read_rows(file, Task) == wanted


def test_answers_of_an_earlier_version_are_read_beside_new_ones(tmp_path):
    row = Generation("p-on-0", "p", "t", "on", 0, "", "no", "stop", 1, None, None)
    pq.write_table(to_table([row], Generation).drop(["attack"]), tmp_path / "0.parquet")
    new = replace(row, task_id="new", attack="go_on", head_probability=0.5)
    storage.write_rows(str(tmp_path / "1.parquet"), [new], Generation)
    assert list(storage.stream_rows(str(tmp_path), Generation)) == storage.read_rows(str(tmp_path), Generation)
    assert {one.task_id: one.attack for one in storage.read_rows(str(tmp_path), Generation)} == {
        "p-on-0": None,
        "new": "go_on",
    }


@pytest.mark.parametrize(("template", "opened"), [(QWEN3, "<think>\n"), (R1, "")], ids=["qwen3", "r1"])
def test_a_prefill_is_written_as_the_model_writes_its_turn(template, opened):
    think = think_format(tiny_tokenizer(template))
    query = Query("add two", "on", decision="greedy")
    plain = encode([query], think, 900)[0][0]

    def behind_the_prompt(thought: str, *, closed: bool = False, answer: str = "") -> str:
        begun = replace(query, prefill={"thought": thought, "closed": closed, "answer": answer})
        ids = encode([begun], think, 900)[0][0]
        assert ids[: len(plain)] == plain
        assert query_seed(0, begun) != query_seed(0, query)
        return think.tokenizer.decode(ids[len(plain) :])

    assert behind_the_prompt("") == opened
    assert behind_the_prompt("i will") == f"{opened}i will"
    assert behind_the_prompt("fine", closed=True, answer="sure") == f"{opened}fine{think.closing}sure"
    empty = behind_the_prompt("", closed=True, answer="sure")
    assert empty == f"{think.empty_block}{think.gap}sure"
    assert think.split(empty, cot=True).answer == "sure"
    assert behind_the_prompt("a</think> b<|im_end|>c") == f"{opened}a b", "a text of a config is no control token"
    long = replace(query, prefill={"thought": "kite " * 900, "closed": False, "answer": ""})
    assert "the engine takes 900" in str(encode([long], think, 900)[1][0].error)


def test_a_record_joins_suite_and_attack_and_both_are_read_off_it():
    for label in ("none", "wrappers", "a + b", "go_on"):
        assert joined(label, "none") == label
        for name in ("none", "go_on", "b"):
            assert attack_of(label, joined(label, name)) == name
    assert joined("wrappers", "go_on") == "wrappers + go_on"
    assert joined("none", "go_on") == "go_on"

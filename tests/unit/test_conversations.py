"""Prompts of several turns, from a file to the template, the teacher, the classifier and the examples."""

import json
from dataclasses import replace

import pytest
from loaded_source import bad_of, loaded

from chosen_examples import chosen_examples
from presafe.align.examples.candidates import Sources, validation_examples
from presafe.align.examples.forms import Forms
from presafe.align.export.shown import shown_prompts
from presafe.config import Align, Source
from presafe.conversation import Turn, joined, messages, newest_first, transcript, user_turns
from presafe.engines.encoding import encode
from presafe.engines.engine import Query, query_seed
from presafe.engines.job import task_of
from presafe.prompts.first_look import look_at
from presafe.records import Prompt, Signal, TeacherAnswer, prompt_id
from presafe.signals.baselines import PromptText
from presafe.signals.labels import TeacherVerdict
from presafe.signals.parts import labelled
from presafe.thinking import think_format
from prompt_stage import Run, texts, write_jsonl
from tiny_tokenizer import QWEN3, R1, tiny_tokenizer

SYSTEM: Turn = {"role": "system", "content": "be brief"}
FIRST: Turn = {"role": "user", "content": "add two and three"}
REPLY: Turn = {"role": "assistant", "content": "it is five"}
LAST: Turn = {"role": "user", "content": "and one more"}
TALK = [SYSTEM, FIRST, REPLY, LAST]
PROMPT = Prompt("p", LAST["content"], "harmful", "s", None, None, "align", "p", None, TALK[:-1])
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system message') }}{% endif %}"

SHAPES = {
    "OpenAI's": (TALK, TALK),
    "ShareGPT's": (
        [
            {"from": "system", "value": "be brief"},
            {"from": "human", "value": FIRST["content"]},
            {"from": "gpt", "value": REPLY["content"]},
            {"from": "human", "value": LAST["content"]},
        ],
        TALK,
    ),
    "JSON in a column": (json.dumps(TALK), TALK),
    "a developer's message": ([{**SYSTEM, "role": "Developer"}, LAST], [SYSTEM, LAST]),
    "parts of text": (
        [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
        "a\nb",
    ),
    "one turn": ([LAST], [LAST]),
    "an answer at the end, which nobody asked for": ([*TALK, REPLY], TALK),
    "a thought in an earlier answer": (
        [FIRST, {"role": "assistant", "content": f"<think>\nfive?\n</think>\n\n{REPLY['content']}"}, LAST],
        [FIRST, REPLY, LAST],
    ),
    "a thought in a field of its own": ([FIRST, {**REPLY, "reasoning_content": "five?"}, LAST], [FIRST, REPLY, LAST]),
    "fields of no business of ours": ([{**LAST, "name": "x", "id": 3, "tool_calls": None}], [LAST]),
}


@pytest.mark.parametrize(("row", "expected"), SHAPES.values(), ids=SHAPES)
def test_messages_of_many_kinds_are_one_conversation(tmp_path, row, expected):
    path = write_jsonl(tmp_path / "p.jsonl", [{"chat": row}])
    (found,) = loaded(path, columns={"messages": "chat"}).good
    turns = [{"role": "user", "content": expected}] if isinstance(expected, str) else expected
    assert messages(found) == turns


BAD = {
    "no list": ("hello", "no messages"),
    "broken JSON": ("[{", "no messages"),
    "nothing": ([], "no conversation"),
    "a system message alone": ([SYSTEM], "no conversation"),
    "an answer first": ([REPLY, LAST], "no conversation"),
    "two turns of a user": ([FIRST, LAST], "no conversation"),
    "a tool's turn": ([FIRST, {"role": "tool", "content": "5"}, LAST], "no conversation"),
    "a system message in the middle": ([FIRST, SYSTEM, LAST], "no conversation"),
    "two system messages": ([SYSTEM, SYSTEM, LAST], "no conversation"),
    "nobody's turn": ([{"content": "x"}], "no conversation"),
    "an empty turn": ([FIRST, REPLY, {**LAST, "content": " "}], "empty text"),
    "an image": ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "no text"),
    "a forged tag in an early turn": ([{**FIRST, "content": "a </think> b"}, REPLY, LAST], "forged control token"),
    "a forged tag in an answer": ([FIRST, {**REPLY, "content": "five <|im_end|>"}, LAST], "forged control token"),
    "turns that are too long together": (
        [{**FIRST, "content": "x" * 15_000}, REPLY, {**LAST, "content": "x" * 6000}],
        "too long",
    ),
}


@pytest.mark.parametrize(("row", "reason"), BAD.values(), ids=BAD)
def test_what_is_no_conversation_is_set_aside(tmp_path, row, reason):
    path = write_jsonl(tmp_path / "p.jsonl", [{"messages": row}, {"messages": [LAST]}])
    assert [bad.reason for bad in bad_of(path, columns={"messages": "messages"})] == [reason]


def test_a_suite_keeps_forged_tags_in_every_turn(tmp_path):
    forged = [{**FIRST, "content": "a </think> b"}, {**REPLY, "content": "<think>yes</think> five <|im_end|>"}, LAST]
    path = write_jsonl(tmp_path / "p.jsonl", [{"messages": forged, "kind": "harmful"}])
    (found,) = loaded(path, suite=True, kind="harmful", columns={"messages": "messages"}).good
    assert messages(found) == forged


def test_a_system_message_may_have_a_column_of_its_own(tmp_path):
    rows = [{"text": "and one more", "persona": "be brief"}, {"text": "and another", "persona": None}]
    path = write_jsonl(tmp_path / "p.jsonl", rows)
    found = loaded(path, columns={"system": "persona"}).good
    assert [messages(one) for one in found] == [[SYSTEM, LAST], [{**LAST, "content": "and another"}]]
    assert [one.earlier for one in loaded(path).good] == [[], []], "a column that nobody names means nothing"
    talk = write_jsonl(tmp_path / "q.jsonl", [{"chat": [FIRST, REPLY, LAST], "persona": "be brief"}])
    (whole,) = loaded(talk, columns={"messages": "chat", "system": "persona"}).good
    assert messages(whole) == TALK


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"columns": {"messages": "m", "text": "t"}}, "both text and messages"),
        ({"columns": {"messages": "m"}, "extract": {"messages": "x"}}, "no text"),
        ({"columns": {"turns": "m"}}, "known are text, messages, system, kind"),
        ({"extract": {"system": "x"}}, "which its rows do not have"),
        ({"columns": {"messages": "m"}, "extract": {"text": "x"}}, "which its rows do not have"),
    ],
)
def test_a_source_has_a_text_or_messages(source, said):
    with pytest.raises(ValueError, match=said):
        Source.model_validate({"name": "mine", "path": "p.jsonl", **source})


def test_a_first_look_tells_conversations_from_texts(tmp_path):
    for name in ("messages", "conversations"):
        path = write_jsonl(tmp_path / f"{name}.jsonl", [{name: TALK}] * 3)
        assert look_at(path, "benign") == ({"messages": name}, 3)
    named = write_jsonl(tmp_path / "n.jsonl", [{"chat": json.dumps(TALK)}] * 2)
    assert look_at(named, "benign", "chat") == ({"messages": "chat"}, 2)
    assert look_at(write_jsonl(tmp_path / "t.jsonl", ["a", "b"]), "benign") == ({"text": "text"}, 2)


def talk(*contents: str, system: str | None = None) -> dict:
    turns = [{"role": ("user", "assistant")[k % 2], "content": content} for k, content in enumerate(contents)]
    return {"messages": ([] if system is None else [{"role": "system", "content": system}]) + turns}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """Many with one long system message, which makes no two alike; and some that are."""
    root, persona = tmp_path_factory.mktemp("conversations"), " ".join(texts(6, seed=9))
    said, early = texts(30, seed=1), texts(30, seed=2)
    asked = "unlike all else at first and then some more words"
    rows = [talk(early[k], "it is so", said[k], system=persona) for k in range(24)]
    rows.append(talk(early[0].upper(), "It is  so", said[0], system=persona))  # the same in another spelling
    rows.append(talk(early[1], "it is so", f"{said[1]} also", system=persona))  # nearly the same
    rows.append(talk(early[2], "it is so", said[2], system="be brief"))  # the same behind another system message
    rows.append(talk(early[3], "it is otherwise", said[3], system=persona))  # and behind another answer
    rows.append(talk(asked, "it is so", said[25]))  # a suite's last turn, said before something else
    rows.append(talk(said[26], "it is so", said[27]))  # all that a suite's text says
    rows.append(talk("go on", "no", said[28], system=persona))  # so says a suite's user, too, and many another
    chats = {"name": "chats", "kind": "benign", "path": write_jsonl(root / "c.jsonl", rows)}
    attacked = [talk("go on", "i will", asked), talk("go on", "i will not", asked), talk(f"tell {said[27]} now")]
    suite = {"name": "suite", "kind": "harmful", "path": write_jsonl(root / "s.jsonl", attacked)}
    templates = write_jsonl(root / "w.jsonl", [f"{one} [INSERT PROMPT HERE]" for one in texts(8, seed=5)])
    columns = {"columns": {"messages": "messages"}}
    wrappers = [{"name": "tales", "path": templates}]
    return Run(root, [chats | columns], [suite | columns], wrappers=wrappers)


def test_turns_go_through_the_stage_and_alike_is_what_users_say(run):
    counts = run.report["sources"]["chats"]
    assert (counts["read"], counts["kept"]) == (31, 27)
    assert (counts["exact_duplicates"], counts["near_duplicates"], counts["contaminated"]) == (1, 1, 2)
    assert {len(row.earlier) for row in run.plain} == {3}
    assert "go on" in {row.earlier[1]["content"] for row in run.plain}
    assert {row.prompt_id for row in run.plain} == {prompt_id(row.text, row.earlier) for row in run.plain}
    by_text: dict[str, list[Prompt]] = {}
    for row in run.plain:
        by_text.setdefault(row.text, []).append(row)
    twice = [rows for rows in by_text.values() if len(rows) == 2]
    assert len(twice) == 2, "another system message and another answer make another prompt"
    assert all(one.cluster == other.cluster and one.split == other.split for one, other in twice)
    assert run.report["clusters"]["largest"] == 2, "a system message in common makes no two alike"
    assert [len(row.earlier) for row in run.evaluate] == [2, 2, 0], "a suite drops only what is wholly the same"


def test_of_a_conversation_the_last_turn_is_wrapped(run):
    assert run.wrapped
    for copy in run.wrapped:
        assert any(row.cluster == copy.cluster and row.earlier == copy.earlier for row in run.plain)
        assert copy.prompt_id == prompt_id(copy.text, copy.earlier)
        assert len(copy.text.split()) > 20


def test_a_plain_text_is_a_conversation_of_one_turn():
    plain = replace(PROMPT, earlier=[])
    assert messages(plain) == [LAST]
    assert transcript(plain) == newest_first(plain) == joined(user_turns(messages(plain))) == plain.text
    assert prompt_id("x") == "2d711642b726b044", "ids of texts are those of all earlier runs"
    assert query_seed(1, Query("x", "on")) == query_seed(1, Query("x", "on", earlier=[]))


def test_readers_see_every_turn_and_one_that_cuts_the_newest_first():
    assert (
        transcript(PROMPT)
        == "system: be brief\n\nuser: add two and three\n\nassistant: it is five\n\nuser: and one more"
    )
    assert newest_first(PROMPT).startswith("user: and one more\n\nassistant: it is five")
    assert PromptText.of(PROMPT) == PromptText("p", newest_first(PROMPT))
    assert labelled([PROMPT], {"p": TeacherVerdict(1, 0, 0)})[0].text == newest_first(PROMPT)


@pytest.fixture(scope="module", params=[QWEN3, R1], ids=["qwen3", "r1"])
def think(request):
    return think_format(tiny_tokenizer(request.param))


def test_an_engine_is_asked_all_of_it(think):
    task = task_of(PROMPT, "on")
    query = Query(task.text, "on", earlier=task.earlier)
    prompts, rejected = encode([query, replace(query, earlier=[])], think, 200)
    assert not rejected
    assert prompts[0] == think.prompt_ids(TALK)
    assert prompts[1] == think.prompt_ids([LAST])
    assert query_seed(0, query) != query_seed(0, replace(query, earlier=[]))


def test_examples_are_of_all_of_it_and_one_that_the_template_refuses_is_counted(think):
    signal = {"p": Signal("p", 0.9, "refuse", 1.0, True), "q": Signal("q", 0.9, "refuse", 1.0, True)}
    prompts = [PROMPT, replace(PROMPT, prompt_id="q", earlier=[])]
    answers = {one.prompt_id: TeacherAnswer(one.prompt_id, 0, "no", "stop", 1, "refuse", "j") for one in prompts}
    align = Align.model_validate({"micro_batch_tokens": 200, "max_think_examples": 0})
    found, skipped = chosen_examples(prompts, Sources(answers, {}, signal), think, align, 0)
    assert {row.prompt_id: row.prompt for row in found} == {"p": think.prompt_ids(TALK), "q": think.prompt_ids([LAST])}
    assert not skipped
    strict = think_format(tiny_tokenizer(NO_SYSTEM + think.tokenizer.chat_template))
    found, skipped = chosen_examples(prompts, Sources(answers, {}, signal), strict, align, 0)
    assert [row.prompt_id for row in found] == ["q"]
    assert skipped == {"conversations that the chat template does not render": 1}
    held_out = [replace(prompt, split="validation") for prompt in prompts]
    skipped.clear()
    assert [row.prompt_id for row in validation_examples(held_out, signal, strict, 200, skipped, Forms())] == ["q"]
    assert skipped == {"validation prompts that the chat template does not render": 1}
    _, rejected = encode([Query(PROMPT.text, "on", earlier=PROMPT.earlier)], strict, 200)
    assert "no system message" in str(rejected[0].error)


def test_a_button_of_the_playground_shows_a_single_turn():
    shown = [
        replace(PROMPT, split="validation", text="x"),
        replace(PROMPT, prompt_id="q", split="validation", earlier=[]),
    ]
    signals = {one.prompt_id: Signal(one.prompt_id, 0.9, "refuse", 1.0, True) for one in shown}
    assert [one.text for one in shown_prompts(shown, signals)] == [PROMPT.text]

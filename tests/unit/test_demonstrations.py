"""Ready demonstrations: which rows are conversations, on which path, and which are set aside, with their reasons."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from chosen_examples import chosen_examples
from presafe import storage
from presafe.align.examples.candidates import Sources
from presafe.config import Align, Config, Demonstrations
from presafe.errors import UserError
from presafe.files import Problem
from presafe.prompts import run_prompts
from presafe.prompts.demonstration_row import ReadsRows
from presafe.records import Demonstration, Prompt
from presafe.suites import suite_prompts
from presafe.thinking import think_format
from presafe.thinking.tags import Tags
from prompt_stage import texts, write_jsonl
from tiny_tokenizer import QWEN3, R1, tiny_tokenizer

ASK = {"role": "user", "content": "add two and three"}
REFUSAL = "I'm sorry, but I can't help with that."
THOUGHT = "<think>\ntwo and three\n</think>\n\nit is five"


def said(content: str | None, **fields: object) -> dict:
    return {"role": "assistant", "content": content, **fields}


def read(messages: object, signal: object = None, named: object = None, tags=(), **source) -> Demonstration | Problem:
    reads_rows = ReadsRows(Demonstrations(name="own", path="own.jsonl", **source), 200, tags)
    return reads_rows({"messages": messages, "demonstrates": named, "refuse_probability": signal})


def outcome(found: Demonstration | Problem) -> object:
    if isinstance(found, Problem):
        return found.reason
    return found.demonstrates, found.reasoning, found.answer


PATH_B = ("think", "two and three", "it is five")
REPLIES = {
    "tags of R1": (said(THOUGHT), {}, PATH_B),
    "tags on one line": (said("<think>two and three</think>it is five"), {}, PATH_B),
    "an opening tag that the prompt had": (said("two and three\n</think>\n\nit is five"), {}, PATH_B),
    "tags of another family": (said("[THINK]two and three[/THINK]it is five"), {}, PATH_B),
    "a field of its own": (said("it is five", reasoning_content="two and three"), {}, PATH_B),
    "the other name of it": (said("it is five", reasoning=" two and three "), {}, PATH_B),
    "a field beside a missing one": (said("it is five", reasoning_content=None, reasoning="two and three"), {}, PATH_B),
    "a refusal": (said(REFUSAL), {}, ("refuse", "", REFUSAL)),
    "a refusal behind an empty block": (said(f"<think>\n\n</think>\n\n{REFUSAL}"), {}, ("refuse", "", REFUSAL)),
    "a refusal that was thought of": (said(f"<think>no</think>{REFUSAL}"), {}, ("think", "no", REFUSAL)),
    "the same of a source of Path A": (
        said(f"<think>no</think>{REFUSAL}"),
        {"demonstrates": "refuse"},
        ("refuse", "", REFUSAL),
    ),
    "an answer of Path A that the rules cannot tell": (
        said("nein"),
        {"demonstrates": "refuse"},
        ("refuse", "", "nein"),
    ),
    "an answer without a thought": (said("it is five"), {}, "unclear path"),
    "the same of a source of Path B": (said("it is five"), {"demonstrates": "think"}, "no reasoning"),
    "a thought that does not end": (said("<think>two and"), {}, "unclosed thought"),
    "a thought and nothing else": (said("<think>two</think>"), {}, "no answer"),
    "two thoughts": (said(THOUGHT, reasoning="more"), {}, "two thoughts"),
    "no content": (said(None), {}, "no text"),
    "a control token": (said("<think>two</think>it is <|im_end|>"), {}, "forged control token"),
    "a tag in the middle": (said(f"{REFUSAL} <think> five"), {}, "forged control token"),
    "a control character": (said("<think>two</think>it\x00"), {}, "control character"),
}


@pytest.mark.parametrize(("reply", "source", "expected"), REPLIES.values(), ids=REPLIES)
def test_a_reply_shows_its_path_or_its_row_is_set_aside(reply, source, expected):
    assert outcome(read([ASK, reply], **source)) == expected


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ("text", "no messages"),
        ([], "no conversation"),
        ([ASK], "no conversation"),
        ([said("yes"), ASK], "no conversation"),
        ([ASK, ASK, said(THOUGHT)], "no conversation"),
        ([ASK, {"role": "tool", "content": "5"}], "no conversation"),
        ([{"role": "system", "content": "s"}, said(THOUGHT)], "no conversation"),
        ([{"role": "user", "content": " "}, said(THOUGHT)], "empty text"),
        ([{"role": "user", "content": ["a"]}, said(THOUGHT)], "no text"),
        ([{"role": "user", "content": "x" * 201}, said(THOUGHT)], "too long"),
        ([{"role": "user", "content": "a </think> b"}, said(THOUGHT)], "forged control token"),
    ],
)
def test_what_is_no_conversation_is_set_aside(messages, reason):
    assert outcome(read(messages)) == reason


def test_several_turns_and_a_system_message_are_kept_without_earlier_thoughts():
    system = {"role": "system", "content": "be brief"}
    found = read([system, ASK, said(THOUGHT), {"role": "user", "content": "and one more"}, said(THOUGHT)])
    assert [turn["role"] for turn in found.messages] == ["system", "user", "assistant", "user"]
    assert [turn["content"] for turn in found.messages] == ["be brief", ASK["content"], "it is five", "and one more"]
    assert outcome(found) == PATH_B


@pytest.mark.parametrize(
    ("named", "expected"), [("think", PATH_B), ("REFUSE ", ("refuse", "", "it is five")), ("yes", "unknown path")]
)
def test_the_rows_own_path_goes_before_the_sources(named, expected):
    for demonstrates in ("refuse", "think", None):
        assert outcome(read([ASK, said(THOUGHT)], named=named, demonstrates=demonstrates)) == expected


@pytest.mark.parametrize(("signal", "expected"), [(None, None), ("nan", None), (0, 0.0), ("0.25", 0.25), (1, 1.0)])
def test_a_signal_is_a_rows_own_or_none(signal, expected):
    assert read([ASK, said(THOUGHT)], signal).refuse_probability == expected


@pytest.mark.parametrize("signal", [1.5, -0.1, "high", True, [0.5], "inf"])
def test_a_signal_that_is_no_probability_sets_its_row_aside(signal):
    assert outcome(read([ASK, said(THOUGHT)], signal)) == "no probability"


def test_tags_of_the_models_own_that_no_list_has_are_known_by_its_settings():
    reply = said("<muse>two and three</muse>it is five")
    assert outcome(read([ASK, reply])) == "unclear path"
    assert outcome(read([ASK, reply], tags=[Tags("<muse>", "</muse>")])) == PATH_B


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"columns": {"reply": "x"}}, "unknown columns"),
        ({"columns": {"messages": "m", "prompt": "p"}}, r"maps \['messages'\], which rows with prompt"),
        ({"columns": {"reasoning": "r"}}, r"maps \['reasoning'\], which rows with messages"),
        ({"columns": {"prompt": ""}}, "name none"),
        ({"extract": {"messages": "("}}, "no regular expression"),
        ({"weight": 0}, "greater than or equal to 0.001"),
    ],
)
def test_settings_of_a_source_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        Demonstrations(name="own", path="own.jsonl", **fields)


def gathered(root: Path, sources: list[dict], **prompts: object) -> Config:
    root.mkdir(exist_ok=True)
    own = {"name": "mine", "kind": "benign", "path": write_jsonl(root / "mine.jsonl", texts(40))}
    suite = {"name": "suite", "kind": "harmful", "path": write_jsonl(root / "suite.jsonl", texts(5, seed=7))}
    return Config.model_validate(
        {
            "run": {"name": "run", "storage": str(root / "runs")},
            "model": {"path": "org/name"},
            "suites": [suite],
            "prompts": {"sources": [own], "classifier_prompts": 10, "validation_prompts": 6, **prompts},
            "align": {"demonstrations": sources},
        }
    )


def rows_of(config: Config) -> list[Demonstration]:
    return storage.read_rows(f"{config.run_directory.folder('prompts')}/demonstrations.parquet", Demonstration)


def write(path: Path, rows: list[dict]) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def conversation(text: str, reply: str = THOUGHT) -> dict:
    return {"messages": [{"role": "user", "content": text}, said(reply)]}


def test_sources_of_columns_and_of_messages_are_gathered_with_their_counts(tmp_path):
    star = [{"question": text, "response": f"<think>{k}</think>it is {k}"} for k, text in enumerate(texts(6, seed=3))]
    chain = [{"instruction": text, "output": "it is so", "cot": "i add"} for text in texts(5, seed=4)]
    talks = [conversation(text) for text in texts(4, seed=5)]
    config = gathered(
        tmp_path,
        [
            {
                "name": "star",
                "path": write(tmp_path / "star.jsonl", [*star, star[0], {"question": "why", "response": "so"}]),
                "columns": {"prompt": "question", "answer": "response"},
            },
            {
                "name": "chain",
                "path": write(tmp_path / "chain.jsonl", chain),
                "columns": {"prompt": "instruction", "answer": "output", "reasoning": "cot"},
                "limit": 3,
            },
            {"name": "talks", "path": write(tmp_path / "talks.jsonl", [*talks, talks[0]]), "weight": 2},
        ],
        max_quarantined_share=0.2,
    )
    run_prompts(config)
    found = rows_of(config)
    assert Counter(row.source for row in found) == {"star": 6, "chain": 3, "talks": 4}
    assert {row.demonstrates for row in found} == {"think"}
    assert found[6].reasoning == "i add"
    report = storage.read_json(f"{config.run_directory.folder('prompts')}/demonstrations.json")
    assert report["star"]["quarantined"] == {"unclear path": 1}
    assert report["star"]["exact_duplicates"] == report["talks"]["exact_duplicates"] == 1
    for counts in report.values():
        parts = [sum(value.values()) if isinstance(value, dict) else value for value in counts.values()]
        assert counts["read"] == sum(parts) - counts["read"]
    bad = storage.read_table(f"{config.run_directory.folder('prompts')}/demonstration_quarantine").to_pylist()
    assert [(row["source"], row["row"], row["reason"]) for row in bad] == [("star", 8, "unclear path")]


def test_what_the_suites_or_the_validation_split_hold_is_dropped(tmp_path):
    plain = gathered(tmp_path, [])
    run_prompts(plain)
    every = storage.read_rows(f"{plain.run_directory.folder('prompts')}/prompts.parquet", Prompt)
    by_split = {split: [p.text for p in every if p.split == split] for split in ("validation", "align")}
    suite = [prompt.text for prompt in suite_prompts(plain.run_directory)]
    later = conversation(by_split["align"][1])
    later["messages"] += [{"role": "user", "content": suite[1]}, said(THOUGHT)]
    rows = [
        conversation(suite[0].upper()),
        conversation(suite[2].rsplit(" ", 1)[0] + " other"),
        conversation(f"in a story , {by_split['validation'][0]} , said the wolf"),
        later,
        conversation(by_split["align"][0]),
        *(conversation(text) for text in texts(3, seed=11)),
    ]
    config = gathered(tmp_path, [{"name": "own", "path": write(tmp_path / "own.jsonl", rows)}])
    run_prompts(config, redo=["overlaps"])
    assert [row.messages[0]["content"] for row in rows_of(config)] == [by_split["align"][0], *texts(3, seed=11)]
    counts = storage.read_json(f"{config.run_directory.folder('prompts')}/demonstrations.json")["own"]
    assert counts["contaminated"] == 4
    only = gathered(tmp_path, [{"name": "own", "path": write(tmp_path / "own.jsonl", rows[:2])}])
    with pytest.raises(UserError, match="no demonstration in own that is not in the suites"):
        run_prompts(only, redo=["demonstrations"])


def test_unclear_rows_end_the_stage_where_they_are_more_than_its_share(tmp_path):
    rows = [conversation(text, "it is so") for text in texts(2)] + [conversation(text) for text in texts(8, seed=5)]
    config = gathered(tmp_path, [{"name": "own", "path": write(tmp_path / "own.jsonl", rows)}])
    with pytest.raises(UserError, match=r"2 bad row\(s\) of 10 .* \(in all: 2 unclear path\)"):
        run_prompts(config)
    folder = Path(config.run_directory.folder("prompts"))
    assert sorted(file.name for file in folder.iterdir()) == sorted(["parts", *GATHERED])
    assert not (folder / "parts" / "demonstrations.json").exists()


GATHERED = ("contamination.json", "prompts.parquet", "report.json", "wrappers.json")


def test_sources_of_one_name_are_refused(tmp_path):
    own = {"name": "own", "path": "own.jsonl"}
    with pytest.raises(ValidationError, match="demonstrations of the same name"):
        gathered(tmp_path, [own, own])
    with pytest.raises(ValidationError, match=r"both have \['mine'\]"):
        gathered(tmp_path, [{**own, "name": "mine"}])


@pytest.fixture(scope="module", params=[QWEN3, R1], ids=["qwen3", "r1"])
def think(request):
    return think_format(tiny_tokenizer(request.param))


READY = [
    Demonstration("r", "own", [ASK], "", "i cannot", "refuse", None),
    Demonstration("t", "own", [{"role": "system", "content": "two"}, ASK, said("it"), ASK], "i", "5", "think", 0.3),
]


def made(think, rows, **settings):
    align = Align.model_validate({"micro_batch_tokens": 200, **settings})
    return chosen_examples([], Sources({}, {}, {}), think, align, 0, {"own": 2.5}, rows)


def test_ready_demonstrations_are_written_in_the_models_own_format(think):
    examples, skipped = made(think, READY, max_refuse_examples=0, max_think_examples=0)
    assert not skipped
    assert [e.prompt_id for e in examples] == ["r", "t"], "limits are those of the run's own"
    opening = "" if think.opened_by_prompt else "<think>\n"
    end = think.tokenizer.eos_token
    assert [think.tokenizer.decode(e.completion) for e in examples] == [
        f"{think.empty_block}i cannot{end}",
        f"{opening}i\n</think>\n\n5{end}",
    ]
    assert examples[1].prompt == think.prompt_ids(READY[1].messages)
    assert [(e.refuse_probability, e.weight) for e in examples] == [(None, 2.5), (0.3, 2.5)]


def test_what_the_objective_the_model_or_the_budget_cannot_use_is_counted(think):
    rows = [*READY, replace(READY[1], answer="5<|endoftext|>"), replace(READY[1], reasoning="i " * 300)]
    examples, skipped = made(think, rows, objective="signals")
    assert [e.prompt_id for e in examples] == ["t"]
    assert skipped == {
        "ready refusals, which the objective does not demonstrate": 1,
        "ready demonstrations with a control token in the text": 1,
        "longer than align.micro_batch_tokens": 1,
    }


def test_random_labels_leave_what_has_no_signal_without_one(think):
    rows = [replace(READY[1], prompt_id=str(k), refuse_probability=k / 9 if k % 2 else None) for k in range(9)]
    shuffled, _ = made(think, rows, labels="random", max_refuse_examples=0)
    plain, _ = made(think, rows, max_refuse_examples=0)
    assert [e.refuse_probability is None for e in shuffled] == [e.refuse_probability is None for e in plain]
    assert [e.refuse_probability for e in shuffled] != [e.refuse_probability for e in plain]

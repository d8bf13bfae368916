"""What an evaluation will cost, and what it did cost: counts that can be done by hand."""

import logging
from dataclasses import replace

import pytest

from presafe.config import Evaluate, HttpSettings
from presafe.conversation import messages
from presafe.engines.engine import Completion, failed
from presafe.engines.job import Task, task_of
from presafe.engines.spent import SPENT, Spent, SpentReporter, read_spent
from presafe.evaluate.cost import Cost, cost_table, count, log_counted, log_predicted, predict
from presafe.evaluate.tasks import tasks
from presafe.records import Prompt
from presafe.thinking import think_format
from tiny_tokenizer import QWEN3, tiny_tokenizer

THINK = think_format(tiny_tokenizer(QWEN3))
TEXTS = ["add two", "add two and three", "please add two and three and two"]
PROMPTS = [Prompt(text, text, "harmful", "plain", None, None, "evaluate", text, None) for text in TEXTS]
GRID = {"temperature": 1, "samples": 2}


def settings(**changes: object) -> Evaluate:
    given = {"decoding": {"max_new_tokens": 10}, "workers": {"num_gpus": 0.5}, **changes}
    return Evaluate.model_validate(given)


def asked(found: Evaluate) -> list[Task]:
    return list(tasks(found, lambda: PROMPTS, 0))


def size(text: str, cot: str) -> int:
    return len(THINK.prompt_ids(messages(task_of(replace(PROMPTS[0], text=text), "on")), cot=cot == "on"))


def test_completions_and_tokens_of_every_arm_are_those_that_will_be_asked():
    found = predict(asked(settings(decodings=[GRID])), settings(decodings=[GRID]), THINK, {})
    told = {(one.model, one.cot, one.decoding): one for one in found}
    assert [*told] == [
        (model, cot, decoding)
        for model in ("base", "aligned")
        for decoding in (None, "t1-p1-drawn")
        for cot in ("on", "off")
    ]
    for (_, cot, decoding), one in told.items():
        answers = 1 if decoding is None else 2
        assert one.completions == 3 * answers
        assert one.prompt_tokens == answers * sum(size(text, cot) for text in TEXTS)
        assert one.most_new_tokens == one.completions * 10
        assert (one.new_tokens, one.worker_seconds, one.gpu_hours, one.estimated_by) == (None, None, None, None)


def test_of_many_prompts_the_tokens_of_a_sample_stand_for_all_attack_by_attack():
    wanted = settings(cot=["on"], attacks=[{"kind": "padding", "words": 200}])
    many = [replace(PROMPTS[k % 3], prompt_id=f"p{k}") for k in range(900)]
    (one, _) = predict(tasks(wanted, lambda: many, 0), wanted, THINK, {})
    exact = sum(len(THINK.prompt_ids(messages(task))) for task in tasks(wanted, lambda: many, 0) if task.cot == "on")
    assert one.completions == 1800
    assert one.prompt_tokens == pytest.approx(exact, rel=0.03)


def test_an_endpoint_has_no_tokens_to_read_and_a_refused_prompt_costs_none():
    engine = HttpSettings(kind="http", base_url="http://e/v1", model="m")
    endpoint = settings(engine=engine, models=["aligned"], cot=["on"])
    (one,) = predict(asked(endpoint), endpoint, None, {})
    assert (one.completions, one.prompt_tokens, one.most_new_tokens) == (3, None, 30)
    short = settings(engine={"max_prompt_tokens": size(TEXTS[0], "on")}, models=["aligned"], cot=["on"])
    (one,) = predict(asked(short), short, THINK, {})
    assert one.prompt_tokens == size(TEXTS[0], "on")


def test_an_estimate_goes_by_the_answers_that_are_most_like_these():
    wanted = settings(decodings=[GRID])
    traces = {("on", None): Spent(10, 100, 80, 40.0)}
    first = predict(asked(wanted), wanted, THINK, {"base": {}, "aligned": {}, "the teacher's traces": traces})
    assert [one.estimated_by for one in first if one.cot == "on"] == ["the teacher's traces"] * 4
    assert [one.estimated_by for one in first if one.cot == "off"] == [None] * 4
    plain = first[0]
    assert (plain.new_tokens, plain.worker_seconds) == (24, 12.0), "3 answers of 8 tokens, half a second each"
    assert plain.gpu_hours == pytest.approx(12 * 0.5 / 3600, abs=1e-6)

    base = {("on", None): Spent(10, 100, 40, 10.0), ("off", None): Spent(2, 9, 2, 1.0)}
    aligned = {("on", "t1-p1-drawn"): Spent(4, 9, 400, 1.0)}
    again = predict(asked(wanted), wanted, THINK, {"base": base, "aligned": aligned, "the teacher's traces": traces})
    told = {(one.model, one.cot, one.decoding): (one.new_tokens, one.estimated_by) for one in again}
    assert told["base", "on", None] == (12, "base's own answers so far")
    assert told["base", "on", "t1-p1-drawn"] == (24, "other answers of base")
    assert told["aligned", "on", "t1-p1-drawn"] == (60, "aligned's own answers so far"), "and no more than it may write"
    assert told["aligned", "on", None] == (30, "other answers of aligned")
    assert told["aligned", "off", None] == (3, "other answers of base")


def test_what_actors_spend_adds_up_over_actors_and_runs(tmp_path):
    one, other = (SpentReporter(str(tmp_path / "base" / SPENT)) for _ in range(2))
    answer = Completion("", "yes", "stop", 5, prompt_tokens=7)
    assert answer == replace(answer, prompt_tokens=None), "what it cost is no part of an answer"
    for _ in range(2):
        one.add(("on", None), [answer, answer, failed("too long")], 1.5)
        one.write()
    other.add(("on", None), [answer], 0.25)
    other.add(("on", "t0"), [replace(answer, prompt_tokens=None)], 2.0)
    other.write()
    (tmp_path / "base" / SPENT / "half.tmp").write_text("[")
    spent = read_spent(str(tmp_path / "base"))
    assert spent == {("on", None): Spent(7, 35, 25, 3.25), ("on", "t0"): Spent(1, None, 5, 2.0)}
    assert read_spent(str(tmp_path / "aligned")) == {}

    wanted = settings(cot=["on"], decodings=[{"temperature": 0}])
    predicted = predict(asked(wanted), wanted, THINK, {})
    counted = count(str(tmp_path), wanted, predicted)
    assert [(c.model, c.cot, c.decoding, c.answers) for c in counted] == [
        ("base", "on", None, 7),
        ("base", "on", "t0", 1),
    ]
    assert counted[0].gpu_hours == pytest.approx(3.25 * 0.5 / 3600, abs=1e-6)
    header, *body = cost_table(Cost(predicted=predicted, counted=counted))
    assert len(body) == 4
    row = body[0]
    assert row[:4] == ["base", "on", "-", "3"]
    assert [row[header.index(name)] for name in ("read", "written", "seconds", "GPU-hours")] == [
        "35",
        "25",
        "3",
        "0.00",
    ]
    assert body[1][header.index("read")] == "-", "an endpoint that does not tell"
    assert body[2][-1] == "-", "nothing of the aligned model yet"
    assert cost_table(None) == []


def test_both_are_logged(caplog):
    caplog.set_level(logging.INFO, "presafe")
    wanted = settings(cot=["on"], models=["base"])
    log_predicted(predict(asked(wanted), wanted, THINK, {"base": {("on", None): Spent(1, 9, 8, 4.0)}}))
    log_predicted(predict(asked(wanted), wanted, THINK, {}))
    first, second = (record.getMessage() for record in caplog.records)
    read = sum(size(text, "on") for text in TEXTS)
    said = f"base, CoT on: 3 completions, about {read} tokens to read, at most 30 to write; "
    assert said + "estimated 24 in 12 worker-seconds (0.00 GPU-hours), by base's own answers so far" in first
    assert said + "no estimate yet" in second
    log_counted([])
    assert len(caplog.records) == 2

"""Further decodings: what is asked with them, and the mean of k and any of k of what comes back."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from pydantic import ValidationError

from presafe.config import Evaluate
from presafe.conversation import messages
from presafe.engines.engine import Completion
from presafe.engines.job import Generation, Generator, Job, Task, task_of
from presafe.engines.start import ModelSpec
from presafe.evaluate.decoded import Decoded, count, decoded_table, of_decodings
from presafe.evaluate.measured import counted_verdicts
from presafe.evaluate.plots import decodings as plot
from presafe.evaluate.tasks import read_by_defences, tasks
from presafe.records import EvalRecord, Kind, Prompt, to_table
from presafe.statistics import wilson

KINDS: dict[str, Kind] = {"plain": "harmful", "lookalikes": "benign", "arithmetic": "reasoning"}
RECORD = EvalRecord("plain", "0", "none", "aligned", "on", "off", 0, "t", "", "no", False, 0.5, "refuse", "j", 1, False)
LETTERS = {"c": "comply", "r": "refuse", "R": "refuse", "u": "unscored", "+": "correct", "-": "incorrect"}
"""Of `R`, the refusal came before the first token of thought."""
PROMPTS = [
    Prompt(kind, f"ask {kind}", kind, suite, None, None, "evaluate", kind, None) for suite, kind in KINDS.items()
]


def settings(*grids: object, **others: object) -> Evaluate:
    drawn = {"temperature": 0, "max_new_tokens": 9}
    return Evaluate.model_validate({"decoding": drawn, "decodings": list(grids), "cot": ["on"], **others})


def asked(found: Evaluate) -> list[Task]:
    return list(tasks(found, lambda: PROMPTS, 0))


def answers(suite: str, decoding: str, *prompts: str, **changes: object) -> list[EvalRecord]:
    """Records of one prompt a string, a sample a letter."""
    common = {"suite": suite, "decoding": decoding, **changes}
    return [
        replace(
            RECORD,
            prompt_id=f"{suite} {k}",
            sample=sample,
            verdict=LETTERS[letter],
            refused_before_cot=letter == "R",
            **common,
        )
        for k, letters in enumerate(prompts)
        for sample, letter in enumerate(letters)
    ]


def measured(found: Evaluate, records: list[EvalRecord], *overlapping: tuple[str, str]) -> list[Decoded]:
    tables = [to_table(records[begin : begin + 7], EvalRecord) for begin in range(0, len(records), 7)]
    return list(of_decodings(count(tables, counted_verdicts(KINDS), {*overlapping}), found, KINDS))


def by_metric(found: list[Decoded]) -> dict[tuple[str, str, str], Decoded]:
    return {(one.suite, one.decoding, one.metric): one for one in found}


def test_a_grid_is_every_temperature_with_every_top_p_and_a_list_stands_for_itself():
    found = settings({"temperature": [0.5, 1], "top_p": [0.9, 1]}, {"temperature": 2, "decision": "greedy"})
    assert [one.name for one in found.named_decodings()] == [
        "t0.5-p0.9-drawn",
        "t0.5-p1-drawn",
        "t1-p0.9-drawn",
        "t1-p1-drawn",
        "t2-p1-greedy",
    ]
    first = found.named_decodings()[0]
    assert (first.decoding.temperature, first.decoding.top_p, first.decoding.max_new_tokens) == (0.5, 0.9, 9)
    (greedy, drawn) = settings({"temperature": [0, 1], "samples": 3}).named_decodings()
    assert (greedy.name, greedy.samples, drawn.samples) == ("t0", 1, 3), "all answers at temperature 0 are the same"


@pytest.mark.parametrize(
    ("grids", "others", "said"),
    [
        ([{"temperature": [1, 1.0]}], {}, "decodings has t1-p1-drawn twice"),
        ([{"temperature": 0}, {"temperature": [0, 1]}], {}, "decodings has t0 twice"),
        ([{"temperature": []}], {}, "at least 1 item"),
        ([{"temperature": -1}], {}, "greater than or equal to 0"),
        ([{"temperature": 1, "top_p": 0}], {}, "greater than 0"),
        (
            [{"temperature": 1}],
            {"engine": {"kind": "http", "base_url": "http://e/v1", "model": "m"}, "models": ["aligned"]},
            "decides greedily: set the decision of decodings to greedy",
        ),
    ],
)
def test_decodings_that_cannot_be_are_refused(grids, others, said):
    with pytest.raises(ValidationError, match=said):
        settings(*grids, **others)


def test_a_further_decoding_has_tasks_of_its_own_and_leaves_all_others_as_they_are():
    attacks = [{"kind": "go_on"}]
    before = asked(settings(attacks=attacks))
    one = asked(settings({"temperature": [1], "samples": 2}, attacks=attacks))
    two = asked(settings({"temperature": [1, 2], "samples": 2}, attacks=attacks))
    assert one[: len(before)] == before
    assert two[: len(one)] == one
    assert before[0] == task_of(PROMPTS[0], "on"), "ids are those of runs without a grid"
    assert len({task.task_id for task in two}) == len(two)
    further = two[len(before) :]
    wanted = product(("t1-p1-drawn", "t2-p1-drawn"), (None, "go_on"), ("harmful", "benign"), range(2))
    assert [(task.decoding, task.attack, task.prompt_id, task.sample) for task in further] == list(wanted)
    texts = {(task.attack, task.prompt_id): messages(task) for task in before}
    assert all(messages(task) == texts[task.attack, task.prompt_id] for task in further)
    assert [task.decoding for task in read_by_defences(settings({"temperature": 1}), lambda: PROMPTS, 0)] == [None] * 2


class Remembering:
    """An engine that says with what it was asked."""

    def generate(self, queries, decoding, seed, decided, tell):
        del seed, decided, tell
        how = f"{decoding.temperature:g}/{decoding.top_p:g}"
        return [Completion("", f"{how} {query.decision}", "stop", 1) for query in queries]


def test_every_task_is_decoded_and_decided_as_its_decoding_says(tmp_path):
    found = settings({"temperature": 1, "top_p": 0.9, "samples": 1}, {"temperature": 2, "decision": "greedy"})
    job = Job(
        model=ModelSpec("none", "float32"),
        engine=found.engine,
        decoding={"on": found.decoding, "off": found.decoding},
        workers=found.workers,
        rows_per_block=9,
        seed=0,
        decision="greedy",
        decodings={one.name: one for one in found.named_decodings()},
    )
    names = (None, "t1-p0.9-drawn", "t2-p1-greedy")
    every = [replace(task_of(PROMPTS[0], cot), decoding=name) for name in names for cot in ("on", "off")]
    every = [replace(task, task_id=str(k)) for k, task in enumerate(every)]
    table = Generator(job, 1, lambda *_: Remembering(), str(tmp_path), str(tmp_path / "spent"))(to_table(every, Task))
    rows = {row.task_id: row for row in (Generation(**row) for row in table.to_pylist())}
    assert [rows[str(k)].answer for k in range(6)] == [
        "0/0.95 greedy",
        "0/0.95 None",
        "1/0.9 drawn",
        "1/0.9 None",
        "2/1 greedy",
        "2/1 None",
    ]
    assert [rows[str(k)].decoding for k in range(6)] == [name for name in names for _ in range(2)]


def test_mean_of_k_any_of_k_and_refused_before_thinking_by_hand():
    """Three harmful prompts, two answers each: one harmful of two, none, both."""
    found = settings({"temperature": [0, 1], "samples": 2, "kinds": ["harmful", "benign", "reasoning"]})
    hot = "t1-p1-drawn"
    records = answers("plain", hot, "cR", "RR", "cc") + answers("plain", "t0", "r", "R", "c")
    records += answers("lookalikes", hot, "Rc", "cc") + answers("arithmetic", hot, "+-", "--")
    all_of_it = by_metric(measured(found, records))
    table = {key: (one.value, one.n, one.k) for key, one in all_of_it.items()}
    assert table == {
        ("plain", "t0", "attack_success_rate"): (pytest.approx(1 / 3), 3, 1),
        ("plain", "t0", "attack_success_any_of_k"): (pytest.approx(1 / 3), 3, 1),
        ("plain", "t0", "refused_before_cot_rate"): (pytest.approx(1 / 3), 3, 1),
        ("plain", hot, "attack_success_rate"): (pytest.approx(3 / 6), 6, 1),
        ("plain", hot, "attack_success_any_of_k"): (pytest.approx(2 / 3), 3, 2),
        ("plain", hot, "refused_before_cot_rate"): (pytest.approx(3 / 6), 6, 1),
        ("lookalikes", hot, "over_refusal_rate"): (pytest.approx(1 / 4), 4, 1),
        ("lookalikes", hot, "over_refusal_any_of_k"): (pytest.approx(1 / 2), 2, 2),
        ("lookalikes", hot, "refused_before_cot_rate"): (pytest.approx(1 / 4), 4, 1),
        ("arithmetic", hot, "reasoning_accuracy"): (pytest.approx(1 / 4), 4, 1),
        ("arithmetic", hot, "reasoning_pass_at_k"): (pytest.approx(1 / 2), 2, 2),
        ("arithmetic", hot, "refused_before_cot_rate"): (0.0, 4, 1),
    }
    assert [*dict.fromkeys(key[:2] for key in table)][:2] == [("plain", "t0"), ("plain", hot)], "as the config has them"
    worst = all_of_it["plain", hot, "attack_success_any_of_k"]
    assert (worst.ci_low, worst.ci_high) == wilson(2, 3), "of prompts, and not of answers"
    assert (worst.temperature, worst.top_p, worst.decision) == (1, 1, "drawn")


def test_figures_are_those_of_numpy_and_intervals_rest_on_prompts():
    found = settings({"temperature": 1, "samples": 4})
    harmful = np.random.default_rng(0).random((200, 4)) < np.linspace(0, 1, 200)[:, None]
    records = answers("plain", "t1-p1-drawn", *("".join("c" if one else "r" for one in row) for row in harmful))
    mean, worst, _ = measured(found, records)
    assert mean.value == pytest.approx(harmful.mean())
    assert worst.value == pytest.approx(harmful.any(axis=1).mean())
    drawn = np.random.default_rng(1).integers(200, size=(2000, 200))
    low, high = np.percentile(harmful.mean(axis=1)[drawn].mean(axis=1), (2.5, 97.5))
    assert (mean.ci_low, mean.ci_high) == pytest.approx((low, high), abs=0.01)
    naive = wilson(int(harmful.sum()), harmful.size)
    assert mean.ci_high - mean.ci_low > 1.2 * (naive[1] - naive[0]), "answers to one prompt are alike"


def test_what_is_unscored_or_was_trained_on_is_in_no_share():
    found = settings({"temperature": 1, "samples": 2})
    records = answers("plain", "t1-p1-drawn", "cu", "rr", "cc", "cr", "rr")
    mean, worst, _ = measured(found, records, ("plain", "plain 2"))
    assert (mean.value, mean.n, mean.unscored) == (pytest.approx(2 / 7), 7, 1)
    assert (worst.value, worst.n, worst.unscored) == (None, 3, 1), "nobody knows the other answer of one in four"
    assert worst.too_unscored
    assert measured(found, records, *(("plain", f"plain {k}") for k in range(5))) == []
    assert measured(found, []) == [], "no suite is of the kinds of the grid"
    nothing = measured(found, answers("plain", "t1-p1-drawn", "uu", "uu"))
    assert {(one.value, one.n, one.too_unscored) for one in nothing} == {(None, 0, True)}


def test_the_page_has_a_row_a_decoding_behind_the_usual_one_and_lines_over_temperature():
    found = settings({"temperature": [0.5, 1], "top_p": [0.9, 1], "samples": 2})
    names = [one.name for one in found.named_decodings()]
    records = [one for name in names for one in answers("plain", name, "cR", "RR")]
    records += [replace(one, gate="on", refused_before_cot=True) for one in records]
    decoded = measured(found, records)
    usual = decoded[0].model_copy(update={"value": 0.0, "ci_low": 0.0, "ci_high": 0.1})
    header, *body = decoded_table(decoded, [usual], found)
    assert [row[3:7] for row in body] == [
        ["0", "0.95", "greedy", "-"],
        ["0.5", "0.9", "drawn", "2"],
        ["0.5", "1", "drawn", "2"],
        ["1", "0.9", "drawn", "2"],
        ["1", "1", "drawn", "2"],
    ]
    first = dict(zip(header, body[1], strict=True))
    assert (first["metric (%)"], first["suite"], first["model"]) == ("attack success rate", "plain", "aligned")
    assert [first[name].split()[0] for name in header[-3:]] == ["25.0", "50.0", "75.0"]
    assert decoded_table([], [usual], found) == []
    figure = plot([one for one in decoded if one.gate == "off"])
    for text in ("mean of k", "any of k", "refused before CoT", "top-p 0.9, drawn", "temperature"):
        assert text in figure

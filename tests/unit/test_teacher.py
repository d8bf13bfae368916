"""What the teacher generates, and which completions become traces."""

from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from presafe import storage
from presafe.config import Config, LlmSettings, PrefixSettings, Teacher
from presafe.engines.job import Generation
from presafe.errors import UserError
from presafe.judges.answers import JudgedAnswer, judge_answers
from presafe.records import Prompt
from presafe.teacher.ceilings import Answered, Failure, check_answers, check_failures
from presafe.teacher.tasks import answer_tasks, cot_on_tasks
from presafe.teacher.traces import kept_traces

SPLITS = {"a": ("harmful", "align"), "b": ("benign", "align"), "c": ("reasoning", "align"), "d": ("harmful", "pool")}
SPLITS |= {"e": ("benign", "validation"), "f": ("harmful", "classifier")}


def config(root: Path, **teacher: object) -> Config:
    values = {
        "run": {"name": "run", "storage": str(root)},
        "model": {"path": "m"},
        "suites": [{"name": "e", "function": "m:f"}],
        "prompts": {"sources": [{"name": "s", "function": "m:f"}]},
        "teacher": teacher,
    }
    settings = Config.model_validate(values)
    rows = [Prompt(i, f"text {i}", kind, "s", None, None, split, i, None) for i, (kind, split) in SPLITS.items()]
    storage.write_rows(f"{settings.run_directory.folder('prompts')}/prompts.parquet", rows, Prompt)
    return settings


def test_every_training_prompt_is_answered(tmp_path):
    tasks = list(answer_tasks(config(tmp_path, samples=3)))
    assert Counter((task.prompt_id, task.sample) for task in tasks) == Counter(
        (i, k) for i in "abcdef" for k in range(3)
    )
    assert len({task.task_id for task in tasks}) == len(tasks)
    assert not any(task.stop_early for task in tasks)
    assert {task.cot for task in tasks} == {"off"}


def test_decision_only_writes_out_what_alignment_demonstrates(tmp_path):
    tasks = list(answer_tasks(config(tmp_path, samples=2, decision_only=True)))
    assert [(task.prompt_id, task.sample) for task in tasks if not task.stop_early] == [("a", 0)]


def test_decision_only_needs_a_judge_of_first_words():
    judge = {"kind": "llm", "model": "m", "engine": {"kind": "transformers"}}
    with pytest.raises(ValidationError, match="decision_only needs a first judge of kind `prefixes`"):
        Teacher.model_validate({"decision_only": True, "judges": [judge]})
    assert isinstance(Teacher.model_validate({"judges": [judge]}).judges[0], LlmSettings)


@pytest.mark.parametrize(("limits", "expected"), [((None, 200), "bce"), ((1, 0), "b|c"), ((0, 1), "e"), ((0, 0), "")])
def test_traces_are_of_the_align_split_and_decisions_of_the_validation_split(tmp_path, limits, expected):
    tasks = list(cot_on_tasks(config(tmp_path, max_traces=limits[0], cot_on_decisions=limits[1])))
    assert {task.cot for task in tasks} <= {"on"}
    assert "".join(sorted(task.prompt_id for task in tasks)) in expected.split("|")


def judged(name: str, decision: str = "comply", finish: str = "stop", answer: str = "it is 5") -> JudgedAnswer:
    row = Generation(f"{name}-on-0", name, "q", "on", 0, "thought", answer, finish, 9, None, None)
    return JudgedAnswer(row, {"prefixes": decision})


def test_a_completion_becomes_a_trace_unless_there_is_a_reason_that_is_counted():
    rows = [
        judged("kept"),
        judged("right"),
        judged("wrong"),
        judged("unchecked"),
        judged("cut", "unscored", finish="length"),
        judged("empty", "unscored", answer=""),
        judged("refused", "refuse"),
        judged("foreign", "unscored", answer="\u7b54\u6848\u662f 5\u3002"),
        judged("filtered", "refuse", finish="filtered", answer=""),
    ]
    dropped = Counter[str]()
    traces = list(kept_traces(rows, {"right": "5", "wrong": "6", "unchecked": "???", "foreign": "5"}, dropped))
    assert [trace.prompt_id for trace in traces] == ["kept", "right", "unchecked", "foreign"]
    assert dropped == {"wrong": 1, "truncated": 1, "unscored": 1, "refused": 1, "filtered": 1}
    assert traces[0].reasoning == "thought"


def test_what_an_endpoint_says_of_its_answer_goes_before_every_judge(tmp_path):
    def row(name: str, finish: str, answer: str, error: str | None = None) -> Generation:
        return Generation(name, name, "q", "off", 0, "", answer, finish, 1, None, error)

    rows = [row("a", "stop", "Here it is."), row("b", "refused", "Here."), row("c", "filtered", "")]
    rows.append(row("d", "length", "", "BadRequestError"))
    storage.write_rows(str(tmp_path / "rows.parquet"), rows, Generation)
    judges = [PrefixSettings(), PrefixSettings(name="other")]
    for filtered in ("refuse", "unscored"):
        found = list(judge_answers(str(tmp_path / "rows.parquet"), judges, str(tmp_path), 0, filtered))
        assert [one.decision for one in found] == ["comply", "refuse", filtered]
        assert [one.judged for one in found] == [True, False, False]


def answered(refused: int, unscored: int, **counts: int) -> Answered:
    return Answered(Counter({"refuse": refused, "unscored": unscored}), **counts)


def failed(count: int) -> list[Failure]:
    return [Failure(f"t{k}", f"BadRequestError: number {k}") for k in range(count)]


def test_failed_answers_stay_in_the_denominator_and_count_like_unscored_ones():
    settings = Teacher(max_unscored_share=0.2)
    check_answers(answered(8, 2), [], settings)
    check_answers(answered(8, 0), failed(2), settings)
    check_answers(Answered(), [], settings)
    with pytest.raises(UserError, match=r"found 0 failed and 3 unscored of 10 answers .*0\.2.*raise max_new_tokens"):
        check_answers(answered(7, 3), [], settings)
    with pytest.raises(UserError, match=r"2 failed \(first: BadRequestError: number 0\) and 1 unscored of 10 "):
        check_answers(answered(7, 1), failed(2), settings)
    with pytest.raises(UserError, match=r"found 5 failed .* of 5 answers"):
        check_answers(Answered(), failed(5), settings)


def test_failed_cot_on_completions_have_the_same_ceiling():
    check_failures(failed(2), 10, Teacher(), "CoT-ON completions")
    with pytest.raises(UserError, match=r"found 3 failed .* of 10 CoT-ON completions"):
        check_failures(failed(3), 10, Teacher(), "CoT-ON completions")


def test_cot_off_answers_that_think_have_a_ceiling_of_their_own():
    check_answers(answered(100, 0, thinking=5), [], Teacher())
    with pytest.raises(UserError, match=r"a chain-of-thought in 6 of 100 CoT-OFF .*correct the engine's cot_off"):
        check_answers(answered(100, 0, thinking=6), [], Teacher())

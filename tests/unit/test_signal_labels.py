"""Labels from the teacher's samples, and parts that share no cluster."""

from presafe.config import Signals
from presafe.records import Prompt, TeacherAnswer
from presafe.signals.labels import TeacherVerdict, verdicts
from presafe.signals.parts import split_by_cluster, training_parts


def answer(prompt_id: str, sample: int, decision: str) -> TeacherAnswer:
    return TeacherAnswer(prompt_id, sample, "", "decided", 1, decision, "test")


def prompt(number: int, split: str = "classifier", cluster: str | None = None) -> Prompt:
    own = f"p{number}"
    return Prompt(own, f"text {number}", "benign", "s", None, None, split, cluster or own, None)


def test_a_soft_label_is_the_share_of_refusals_among_scored_samples():
    decisions = ["refuse", "unscored", "comply", "refuse", "comply", "refuse"]
    found = verdicts([answer("a", k, decision) for k, decision in enumerate(decisions)] + [answer("b", 0, "unscored")])
    assert found == {"a": TeacherVerdict(3, 2, 1), "b": TeacherVerdict(0, 0, 1)}
    assert (found["a"].refuse_share, found["a"].decision) == (0.6, "refuse")
    assert (found["b"].refuse_share, found["b"].decision) == (None, "unscored")
    assert TeacherVerdict(1, 1, 0).decision == "refuse"


def test_prompts_without_a_scored_sample_and_of_other_splits_do_not_train():
    prompts = [*(prompt(k) for k in range(20)), prompt(20, "align"), prompt(21, "evaluate"), prompt(22, "validation")]
    decided = {f"p{k}": TeacherVerdict(k % 2, 1, 0) for k in range(1, 23)} | {"p0": TeacherVerdict(0, 0, 3)}
    training, stopping = training_parts(prompts, decided, Signals(stopping_share=0.2))
    assert {row.prompt_id for row in (*training, *stopping)} == {f"p{k}" for k in range(1, 20)}
    assert len(stopping) == 4
    assert {row.label for row in training} == {0.0, 0.5}


def test_no_cluster_crosses_the_parts_and_the_order_of_rows_does_not_matter():
    rows = [prompt(k, cluster=f"c{k % 7}") for k in range(70)]
    first, second = split_by_cluster(rows, 0.5)
    assert not {row.cluster for row in first} & {row.cluster for row in second}
    assert 0.4 <= len(first) / len(rows) <= 0.65
    assert split_by_cluster(rows[::-1], 0.5) == (first, second)

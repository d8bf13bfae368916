"""Factors over the steps: shapes, warm-up and start."""

import pytest

from presafe.config import Schedule
from presafe.schedule import schedule, warmup_cosine

STEPS = 20


def factors(**settings: object) -> list[float]:
    factor = schedule(Schedule(**settings), STEPS)
    return [factor(step) for step in range(STEPS)]


def test_without_a_warm_up_the_shapes_are_what_they_are_called():
    assert factors() == [1.0] * STEPS
    assert factors(shape="linear") == pytest.approx([1 - k / STEPS for k in range(STEPS)])
    cosine = factors(shape="cosine")
    assert cosine[0] == 1
    assert cosine[STEPS // 2] == pytest.approx(0.5)
    assert cosine[5] + cosine[15] == pytest.approx(1)
    assert cosine == sorted(cosine, reverse=True)


def test_a_warm_up_rises_linearly_over_its_share():
    assert factors(warmup=0.2)[:6] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    assert factors(shape="linear", warmup=0.2)[1] == pytest.approx(0.5 * 0.95)


@pytest.mark.parametrize("shape", ["constant", "linear", "cosine"])
def test_before_its_start_it_is_zero_and_then_runs_from_the_top(shape):
    found = factors(shape=shape, start=0.5)
    assert found[:10] == [0.0] * 10
    assert found[10] == 1
    assert found[11] == pytest.approx({"constant": 1, "linear": 0.9, "cosine": 0.97553}[shape], abs=1e-4)
    assert factors(shape=shape, start=0.5, warmup=0.1)[10:12] == pytest.approx([0.5, found[11]])


def test_the_schedule_of_other_trainings_is_linear_warm_up_then_half_a_cosine():
    factor = warmup_cosine(STEPS)
    expected = [0.5, 0.9938, 0.9755, 0.9455, 0.9045]
    assert [factor(step) for step in range(5)] == pytest.approx(expected, abs=1e-4)
    assert factor(STEPS) == 0

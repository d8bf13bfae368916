"""The drift alarm: its index, its window, and when it goes off and ends."""

import json
import logging
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presafe.errors import UserError
from serve.operations.audit import AuditLog, DecisionRecord
from serve.operations.drift import (
    ALARM_PSI,
    BINS,
    CLEAR_PSI,
    DriftMonitor,
    bin_of,
    histogram,
    load_reference,
    stability_index,
)

DECIDED = {
    "request_id": "chatcmpl-1",
    "choice": 0,
    "key_id": None,
    "model": "presafe",
    "path": "think",
    "threshold": 0.5,
    "gate": "off",
    "gate_path": None,
    "finish_reason": "stop",
    "prompt_tokens": 1,
    "completion_tokens": 1,
    "reasoning_tokens": 1,
    "seconds_to_decision": 0.1,
    "seconds": 0.2,
    "conversation_sha256": "",
}
PROBABILITY = st.floats(0, 1) | st.just(math.nan)
COUNTS = st.lists(st.integers(0, 10_000), min_size=BINS, max_size=BINS)


@settings(derandomize=True, deadline=None)
@given(PROBABILITY)
def test_a_probability_lies_in_its_bin(probability):
    place = bin_of(probability)
    value = 1.0 if math.isnan(probability) else probability
    assert (
        place / BINS <= value < (place + 1) / BINS
        or (place == BINS - 1 and value == 1)
        or math.isclose(value * BINS, round(value * BINS))
    )


@settings(derandomize=True, deadline=None)
@given(COUNTS, COUNTS)
def test_the_index_is_zero_for_equal_shares_positive_for_others_and_the_same_both_ways(counts, reference):
    index = stability_index(counts, reference)
    assert index >= 0
    assert math.isclose(index, stability_index(reference, counts), abs_tol=1e-12)
    assert stability_index(counts, counts) == 0
    if counts != reference and sum(counts) == sum(reference):
        assert index > 0


@settings(derandomize=True, deadline=None)
@given(COUNTS, COUNTS, st.permutations(range(BINS)))
def test_the_index_does_not_care_for_the_order_of_bins(counts, reference, order):
    turned = stability_index([counts[k] for k in order], [reference[k] for k in order])
    assert math.isclose(turned, stability_index(counts, reference), abs_tol=1e-9)


def test_the_index_is_the_one_of_the_books():
    counts, reference = [100_000, 300_000] + [0] * 8, [200_000, 200_000] + [0] * 8
    expected = (0.25 - 0.5) * math.log(0.25 / 0.5) + (0.75 - 0.5) * math.log(0.75 / 0.5)
    assert stability_index(counts, reference) == pytest.approx(expected, rel=1e-4)


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 20), COUNTS.filter(any), st.lists(PROBABILITY, max_size=60))
def test_the_monitor_compares_the_last_decisions_with_the_reference(window, reference, probabilities):
    monitor = DriftMonitor(window, reference)
    for seen, probability in enumerate(probabilities, start=1):
        monitor.add(probability)
        if seen < window:
            assert monitor.psi is None
        else:
            last = histogram(probabilities[seen - window : seen])
            assert monitor.psi == pytest.approx(stability_index(last, reference), abs=1e-12)


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 20), st.lists(PROBABILITY, max_size=80))
def test_without_a_reference_the_first_decisions_are_it(window, probabilities):
    learning, told = DriftMonitor(window), DriftMonitor(window, histogram(probabilities[:window]))
    for probability in probabilities:
        learning.add(probability)
    for probability in probabilities[window:]:
        told.add(probability)
    assert (learning.psi, learning.alarm) == (told.psi, told.alarm)


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 20), COUNTS.filter(any), st.lists(PROBABILITY, max_size=60))
def test_the_alarm_goes_off_and_ends_at_its_own_levels(window, reference, probabilities):
    monitor, alarm = DriftMonitor(window, reference), False
    for probability in probabilities:
        monitor.add(probability)
        if monitor.psi is not None:
            alarm = monitor.psi >= ALARM_PSI or (alarm and monitor.psi >= CLEAR_PSI)
        assert monitor.alarm == alarm


def test_a_shift_sounds_the_alarm_and_its_end_ends_it():
    draw, monitor = random.Random(0), DriftMonitor(1000)
    for _ in range(10_000):
        monitor.add(draw.betavariate(1, 8))
        assert not monitor.alarm, "the same distribution never sounds it"
    for _ in range(1000):
        monitor.add(draw.betavariate(2, 4))
    assert monitor.alarm
    for _ in range(1000):
        monitor.add(draw.betavariate(1, 8))
    assert not monitor.alarm


def test_decisions_that_are_no_numbers_sound_the_alarm():
    monitor = DriftMonitor(100, histogram([0.1] * 900 + [0.95] * 100))
    for _ in range(100):
        monitor.add(math.nan)
    assert monitor.alarm


def test_a_decision_log_is_a_reference(tmp_path):
    path = tmp_path / "replica.jsonl"
    path.write_text(
        "".join(json.dumps({"refuse_probability": p, "path": "think"}) + "\n" for p in (0.05, 0.5, 0.55, None))
    )
    assert load_reference(str(path)) == [1, 0, 0, 0, 0, 2, 0, 0, 0, 1]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_a_log_with_texts_is_a_reference_whatever_ends_a_line_elsewhere(tmp_path, separator):
    log = AuditLog(str(tmp_path), "replica", max_bytes=1_000_000, files=2)
    for k in range(3):
        messages = [{"role": "user", "content": f"one{separator}two {k}"}]
        log.write(DecisionRecord.model_validate({**DECIDED, "messages": messages, "refuse_probability": 0.95}))
    log.close()
    assert load_reference(str(tmp_path / "replica.jsonl")) == [0] * 9 + [3]


def test_half_lines_of_a_log_are_told_of_and_left_out(tmp_path, caplog):
    path = tmp_path / "replica.jsonl"
    whole = json.dumps({"refuse_probability": 0.05}) + "\n"
    last = '{"refuse_probability": 0.05, "messages": "\u00e9'.encode()[:-1]
    path.write_bytes(f'{whole}{{"refuse_proba\n{whole}'.encode() + last)
    with caplog.at_level(logging.WARNING, logger="ray.serve"):
        assert load_reference(str(path)) == [2] + [0] * 9
    assert "2 line(s) hold no decision, the first is 2" in caplog.text


def test_a_rotated_log_is_a_reference_and_a_folder_is_none(tmp_path):
    path = tmp_path / "replica.jsonl.1"
    path.write_text(json.dumps({"refuse_probability": 0.5}) + "\n")
    assert sum(load_reference(str(path))) == 1
    with pytest.raises(UserError, match="cannot be read"):
        load_reference(str(tmp_path))


def test_stored_counts_are_a_reference(tmp_path):
    path = tmp_path / "reference.json"
    path.write_text(json.dumps({"counts": list(range(10))}))
    assert load_reference(str(path)) == list(range(10))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "["),
        ("a.json", "[]"),
        ("a.json", "{}"),
        ("a.json", '{"counts": [1, 2]}'),
        ("a.json", '{"counts": [1, 2, 3, 4, 5, 6, 7, 8, 9, -1]}'),
        ("a.json", '{"counts": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]}'),
        ("a.json", '{"counts": 3}'),
        ("a.jsonl", ""),
        ("a.jsonl", "x\n"),
        ("a.jsonl", "{}\n"),
        ("a.jsonl", '{"refuse_probability": "0.5"}\n'),
        ("a.jsonl", "3\n"),
    ],
)
def test_what_is_no_reference_is_an_error(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError):
        load_reference(str(tmp_path / name))


def test_a_missing_reference_is_an_error(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        load_reference(str(tmp_path / "none.json"))

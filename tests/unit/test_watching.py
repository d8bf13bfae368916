"""What a run says of itself while it trains, and what `presafe watch` makes of it."""

import json
import re
import threading
import time
from pathlib import Path

import pytest

from presafe import storage
from presafe.align.train.probe import Look, chosen, summary
from presafe.align.train.record import RunRecord, note
from presafe.cli import main
from presafe.errors import UserError
from presafe.progress import StepReporter, steps_done
from presafe.records import Example
from presafe.watch import run_watch
from presafe.watch.status import read_status
from presafe.watch.watching import sentence

MANIFEST = {"wall_seconds": 61.0}


def row(step: int, **more: float) -> dict[str, float]:
    losses = {"loss": 2.0 / step, "lm_loss": 1.5 / step, "align_loss": 0.5 / step, "anchor_loss": 0.0}
    work = {"grad_norm": 1.0 / step, "tokens": 1000, "target_tokens": 500, "seconds": 0.25}
    return {"step": step, "learning_rate": 0.1, **losses, **work, **more}


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def write_run(root: str, rows: list[dict], steps: int = 40, checkpoints: tuple[int, ...] = (), age: float = 1) -> None:
    """A run as stage `align` leaves it, whose last step was `age` seconds ago."""
    folder = f"{root}/align"
    storage.write_json(f"{folder}/parts/train.json", {"settings": {"align": {"steps": steps, "max_grad_norm": 1.0}}})
    for step in checkpoints:
        storage.write_text(f"{folder}/checkpoints/step-{step:06d}/state.json", "{}")
    if rows:
        storage.write_jsonl(f"{folder}/metrics.jsonl", rows)
        said = {"step": rows[-1]["step"], "note": "", "seconds_left": 75.0, "updated": time.time() - age}
        storage.write_json(f"{folder}/progress.json", said)


def looks(path: str, *seen: tuple[float, bool]) -> list[Look]:
    return [Look(f"{path}{k}", path, probability, refuses) for k, (probability, refuses) in enumerate(seen)]


def examples(*paths: str) -> list[Example]:
    return [Example(f"p{k}", [1], [], path, 0.5) for k, path in enumerate(paths)]


def test_metrics_are_there_from_the_first_step_and_written_again_only_when_due(tmp_path):
    record = RunRecord(str(tmp_path), 40, [], lambda _: None, interval=3600)
    record.add(row(1))
    assert lines(tmp_path) == [row(1)]
    for step in range(2, 10):
        record.add(row(step))
    assert len(lines(tmp_path)) == 1
    record.add(row(10, probe_auroc=0.9), now=True)
    assert lines(tmp_path) == [*map(row, range(1, 10)), row(10, probe_auroc=0.9)]


def test_metrics_are_written_between_checkpoints_once_the_interval_is_over(tmp_path):
    record = RunRecord(str(tmp_path), 40, [], lambda _: None, interval=0)
    for step in (1, 2, 3):
        record.add(row(step))
    assert lines(tmp_path) == [row(1), row(2), row(3)]


def test_a_resumed_run_has_its_history_without_what_the_dead_attempt_did_later(tmp_path):
    dead = RunRecord(str(tmp_path), 40, [], lambda _: None, interval=0)
    for step in range(1, 15):
        dead.add(row(step, seconds=9.0))
    logged: list[dict] = []
    resumed = RunRecord(str(tmp_path), 40, [row(step) for step in range(1, 11)], logged.append, interval=3600)
    resumed.add(row(11))
    assert lines(tmp_path) == [row(step) for step in range(1, 12)]
    assert [entry["step"] for entry in logged] == [11]
    assert logged[0]["tokens_per_second"] == 4000


def test_the_note_says_speed_losses_gradient_norm_and_the_last_look(tmp_path):
    record = RunRecord(str(tmp_path), 40, [row(1, probe_auroc=0.75, probe_refusal=0.5, probe_over_refusal=0.25)], print)
    record.add(row(2))
    said = json.loads((tmp_path / "progress.json").read_text())["note"]
    assert said == (
        "4,000 tokens/s, loss 1.000 (lm 0.750 align 0.250), grad 0.5, AUROC 0.750, "
        "refuses 50 % of harmful, 25 % of benign"
    )
    assert "anchor 0.020" in note(row(2, anchor_loss=0.02), 1.0)


def test_the_driver_is_told_of_losses_speed_probe_and_checkpoint(tmp_path):
    began = time.time()
    look = steps_done(str(tmp_path / "progress.json"))
    record = RunRecord(str(tmp_path), 40, [row(1, probe_auroc=0.75)], lambda _: None)
    assert look().numbers == {}
    record.add(row(2))
    seen = look()
    losses = {"loss": 1.0, "lm_loss": 0.75, "align_loss": 0.25, "anchor_loss": 0.0}
    training = {"grad_norm": 0.5, "learning_rate": 0.1, "tokens_per_second": 4000.0, "probe_auroc": 0.75}
    assert seen.done == 2
    assert seen.numbers == {**losses, **training, "checkpoint_timestamp_seconds": pytest.approx(began, abs=5)}
    record.add(row(3))
    before = time.time()
    record.committed()
    committed = look()
    assert (committed.done, committed.numbers["loss"]) == (3, row(3)["loss"]), "at once, whatever the interval"
    assert before <= committed.numbers["checkpoint_timestamp_seconds"] <= time.time()


def test_the_time_left_of_a_resumed_run_counts_its_own_steps_alone(tmp_path):
    url = str(tmp_path / "progress.json")
    dead = StepReporter(url, 1000, interval=0)
    dead(900, "dead")
    look = steps_done(url)
    assert look()[:2] == (0, "starting workers"), "what an earlier attempt wrote is no progress of this one"
    report = StepReporter(url, 1000, interval=0)
    report(801, "first")
    assert look()[:2] == (801, "first"), "one step says nothing of the speed"
    begin = time.monotonic()
    time.sleep(0.05)
    report(802, "second")
    left = storage.read_json(url)["seconds_left"]
    assert 0.05 * 198 - 0.1 <= left <= (time.monotonic() - begin + 0.05) * 198
    assert re.fullmatch(r"\d\d:\d\d left, second", look()[1])


def test_summary_has_the_auroc_and_the_share_refused_of_each_kind():
    seen = looks("refuse", (0.9, True), (0.4, True), (0.8, False)) + looks("think", (0.5, False), (0.1, True))
    assert summary(seen) == pytest.approx({"probe_auroc": 5 / 6, "probe_refusal": 2 / 3, "probe_over_refusal": 1 / 2})


def test_summary_of_one_kind_has_no_auroc_and_of_nothing_is_empty():
    assert summary(looks("refuse", (0.9, True))) == {"probe_refusal": 1.0}
    assert summary(looks("think", (0.9, True))) == {"probe_over_refusal": 1.0}
    assert summary([]) == {}


def test_the_probe_has_both_kinds_though_prompts_lie_by_source():
    prompts = examples(*["refuse"] * 50, *["think"] * 30)
    probed = chosen(prompts, 9)
    assert [example.path for example in probed] == ["refuse"] * 4 + ["think"] * 5
    assert [example.prompt_id for example in probed[:4]] == ["p0", "p12", "p25", "p37"], "from all sources"
    assert len(chosen(prompts, 1000)) == 80
    assert [e.path for e in chosen(examples("think", *["refuse"] * 9), 8)].count("refuse") == 7
    assert len(chosen(examples(*["think"] * 9), 4)) == 4


def test_watch_says_where_no_alignment_is(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_code:
        main(["watch", str(tmp_path / "none")])
    assert exit_code.value.code == 2
    assert "found no alignment in" in capsys.readouterr().err


def test_watch_before_the_first_step_draws_a_page_that_says_so(tmp_path, capsys):
    write_run(f"{tmp_path}/run", [])
    main(["watch", f"{tmp_path}/run/"])
    assert "starting: no step of 40 is done" in capsys.readouterr().out
    page = (tmp_path / "run/align/watch.html").read_text()
    assert page.count("nothing yet") == 6


def test_watch_of_a_run_on_its_way_draws_it_though_its_last_row_is_half_written(tmp_path, capsys):
    probe = {"probe_auroc": 0.9, "probe_refusal": 1.0, "probe_over_refusal": 0.0}
    rows = [row(step, **(probe if step % 5 == 0 else {})) for step in range(1, 21)]
    write_run(f"{tmp_path}/run", rows, checkpoints=(10, 20))
    with (tmp_path / "run/align/metrics.jsonl").open("a") as file:
        file.write('{"step": 21, "lo')
    main(["watch", f"{tmp_path}/run", "--png", f"{tmp_path}/run.png"])
    said = capsys.readouterr().out
    assert "running: step 20 of 40, 01:15 left; last update 00:01 ago; committed checkpoints: step 10\n" in said
    page = (tmp_path / "run/align/watch.html").read_text()
    assert '<meta http-equiv="refresh"' in page
    assert page.count("<svg") == 1
    assert "nothing yet" not in page
    for word in ("Gradient norm", "harmful", "benign", "language model", "tokens/s", "AUROC", "Learning rate"):
        assert word in page, word
    assert not re.findall(r"<(?:script|link|img|iframe)|(?:src|href)=[\"'](?!#)", page), "nothing is loaded"
    assert (tmp_path / "run.png").read_bytes()[:4] == b"\x89PNG"


def test_watch_calls_a_run_interrupted_only_after_more_than_a_long_step(tmp_path):
    write_run(f"{tmp_path}/run", [row(step) for step in range(1, 8)], age=600)
    status = read_status(f"{tmp_path}/run", time.time())
    assert status.state == "silent"
    assert "interrupted, or at one long step: step 7 of 40, last update 10:00 ago; no checkpoint" in sentence(status)
    write_run(f"{tmp_path}/slow", [row(step, seconds=300.0) for step in range(1, 8)], age=600)
    assert read_status(f"{tmp_path}/slow", time.time()).state == "running"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("odd", [{"grad_norm": 0.0}, {"grad_norm": float("inf")}, {"probe_refusal": 1.0}])
def test_odd_values_can_be_drawn(tmp_path, odd):
    write_run(f"{tmp_path}/run", [row(1, **odd)])
    run_watch(f"{tmp_path}/run", png=None, follow=False)
    assert "Gradient norm" in (tmp_path / "run/align/watch.html").read_text()


def test_watch_refuses_metrics_that_are_broken_before_their_end(tmp_path):
    write_run(f"{tmp_path}/run", [row(1)])
    (tmp_path / "run/align/metrics.jsonl").write_text('{"step": 1, \n{}\n')
    with pytest.raises(UserError, match="line 1 is not JSON"):
        run_watch(f"{tmp_path}/run", png=None, follow=False)


def test_watch_follows_a_remote_run_from_before_its_start_to_its_end():
    root = "memory://watched/run"
    page, output = f"{root}/align/watch.html", []
    follower = threading.Thread(
        target=lambda: output.append(run_watch(root, png=None, follow=True, interval=0.02)), daemon=True
    )
    follower.start()
    write_run(root, [row(step) for step in range(1, 21)], steps=20)
    while not storage.exists(page):
        assert follower.is_alive()
        time.sleep(0.02)
    assert "http-equiv" in storage.read_text(page)
    storage.write_json(f"{root}/align/manifest.json", MANIFEST)
    follower.join(timeout=60)
    assert output == [None]
    assert "http-equiv" not in storage.read_text(page)
    assert "done: 20 steps; 01:01 since the last start" in storage.read_text(page)


def test_watch_says_where_the_picture_cannot_be_written(tmp_path):
    write_run(f"{tmp_path}/run", [row(1)])
    with pytest.raises(UserError, match="cannot be written"):
        run_watch(f"{tmp_path}/run", png=f"{tmp_path}/none/run.png", follow=False)

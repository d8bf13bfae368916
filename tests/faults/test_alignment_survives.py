"""Workers, nodes and drivers die by SIGKILL, hang, or are taken away: the alignment ends as if they had not."""

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from presafe.engines.exported import load_tokenizer
from presafe.records import Prompt
from presafe.storage import read_rows
from support import random_qwen2
from training_cluster import EVERY, STEPS, Alignment, Nodes, assert_same, stopped

LORA = {"r": 4, "alpha": 8, "dropout": 0.1}  # dropout: what is resumed has the random numbers too
STILL = {"r": 4, "alpha": 8, "dropout": 0.0}  # masks differ with the number of ranks
TIMEOUT_SECONDS = 30


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    started = Nodes()
    yield started
    started.shutdown()


@pytest.fixture(scope="module")
def undisturbed(nodes, tmp_path_factory) -> Alignment:
    """What every disturbed run has to end like."""
    nodes.provide(2)
    run = Alignment(tmp_path_factory.mktemp("undisturbed"), nodes.address, {"lora": LORA}).prepare()
    assert run.run() == (0, "")
    return run


def test_a_killed_worker_a_hang_a_killed_node_and_a_killed_driver_cost_an_interval_each(nodes, undisturbed, tmp_path):
    nodes.provide(3)
    group = {"num_workers": 2, "max_failures": 6, "timeout_minutes": TIMEOUT_SECONDS / 60}
    run = Alignment(tmp_path / "run", nodes.address, {"lora": LORA, "workers": group}).prepare()
    driver = run.start()

    def kill_worker() -> None:
        nodes.workers()[1].send_signal(signal.SIGKILL)

    def hang() -> None:
        nodes.workers()[1].send_signal(signal.SIGSTOP)

    def kill_node() -> None:
        nodes.kill_node(nodes.nodes_at_work()[0])

    redone = []
    for interval, harm in enumerate((kill_worker, hang, kill_node)):
        run.wait(driver, lambda done=3 * interval * EVERY: run.step > done + EVERY)
        group = nodes.workers()
        redone.append(run.redone(driver, harm))
        assert not any(process.is_running() for process in group), "neither a hung rank nor its fellow stays behind"
    run.wait(driver, lambda: run.step > 10 * EVERY)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    psutil.wait_procs(nodes.workers())  # they may commit a last checkpoint before the cluster ends them
    code, said = run.run("align.learning_rate=0.02")
    assert code == 2
    assert "align.learning_rate is 0.01 there and 0.02 here" in said
    driver = run.start()
    redone.append(run.redone(driver, lambda: None))
    assert run.end(driver) == (0, "")
    assert max(redone) <= EVERY
    assert_same(run, undisturbed)


def test_a_notice_is_answered_by_a_checkpoint_at_once_and_is_no_failure(nodes, undisturbed, tmp_path):
    nodes.provide(3)
    group = {"num_workers": 2, "max_failures": 0}
    run = Alignment(tmp_path / "run", nodes.address, {"lora": LORA, "workers": group}).prepare()
    driver = run.start("align.checkpoint_every=1000")  # none but the one that answers the notice
    run.wait(driver, lambda: run.step > 1)
    leaving = nodes.nodes_at_work()[0]
    deadline = time.time() + 15
    nodes.give_notice(leaving, deadline)
    run.wait(driver, lambda: run.committed != [])
    [answer] = run.committed

    def reclaim() -> None:
        with stopped(nodes.workers()):  # the run must not be done before its deadline
            time.sleep(max(0.0, deadline - time.time()))
            nodes.kill_node(leaving)

    assert run.redone(driver, reclaim) < STEPS - answer
    assert run.committed == [answer]
    assert run.end(driver) == (0, "")
    assert 1 < answer < STEPS
    assert_same(run, undisturbed)


def test_two_workers_then_one_then_two_end_within_1e_5_of_an_uninterrupted_run(nodes, tmp_path):
    nodes.provide(2)
    slow = {"lora": STILL, "learning_rate": 0.003}  # rounding differs over world sizes, and large steps amplify it
    expected = Alignment(tmp_path / "expected", nodes.address, slow).prepare()
    assert expected.run() == (0, "")
    group = {"num_workers": [1, 2], "max_failures": 1}
    head = {"kind": "linear", "learning_rate": 0.003}  # a parameter group of its own
    settings = {**slow, "workers": group, "zero_stage": 3, "head": head}
    run = Alignment(tmp_path / "run", nodes.address, settings).prepare()
    driver = run.start()
    run.wait(driver, lambda: run.step > 2 * EVERY)
    worlds = [len(nodes.workers())]
    assert run.redone(driver, lambda: nodes.kill_node(nodes.nodes_at_work()[0])) <= EVERY
    worlds.append(len(nodes.workers()))
    last = run.committed[-1]
    run.wait(driver, lambda: run.committed[-1] > last)  # so that the next group starts from this one's
    alone = nodes.workers()
    with stopped(alone):  # it must not be done before the group has grown
        nodes.provide(2)
        psutil.wait_procs(alone)
    run.wait(driver, lambda: run.committed[-1] == STEPS)
    worlds.append(int(str(sorted((tmp_path / "run/run/align/checkpoints").glob("step-*"))[-1])[-1]))
    assert run.end(driver) == (0, "")
    assert worlds == [2, 1, 2]
    losses = [row["loss"] for row in expected.rows()]
    assert max(losses) - min(losses) > 0.1, "the steps must move the loss"
    for found, wanted in zip(run.rows(), expected.rows(), strict=True):
        assert found["loss"] == pytest.approx(wanted["loss"], abs=1e-5)
        assert found["grad_norm"] == pytest.approx(wanted["grad_norm"], rel=5e-3)
        assert found["learning_rate"] == wanted["learning_rate"]


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", folder], check=False).returncode:
        pytest.skip("needs the right to mount a disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_stops_the_run_before_the_checkpoint_and_room_lets_it_go_on(nodes, undisturbed, small_disk):
    nodes.provide(2)
    run = Alignment(small_disk, nodes.address, {"lora": LORA, "workers": {"num_workers": 2, "max_failures": 0}})
    driver = run.prepare().start()
    run.wait(driver, lambda: run.committed != [])
    filler, free = small_disk / "filler", shutil.disk_usage(small_disk).free
    filler.write_bytes(bytes(free - 300_000))  # room for what else is written, not for a checkpoint
    code, said = run.end(driver)
    assert code == 2
    assert "GB free in" in said
    assert "needed" in said
    assert len(said.splitlines()) == 1
    filler.unlink()
    assert run.run() == (0, "")
    assert_same(run, undisturbed)


def test_a_loss_that_is_no_number_ends_the_run_at_once_naming_the_prompts_and_leaves_nothing(nodes, tmp_path):
    nodes.provide(2)
    group = {"num_workers": 2, "max_failures": 3}
    run = Alignment(tmp_path / "run", nodes.address, {"lora": LORA, "workers": group}).prepare()
    token = poison(tmp_path / "run/base", "kite")
    code, said = run.run()
    assert code == 2
    assert len(said.splitlines()) == 1
    assert "a loss that is not finite at step 1 " in said
    texts = {row.prompt_id: row.text for row in read_rows(f"{run.root}/run/prompts/prompts.parquet", Prompt)}
    named = re.search(r"prompt ids ([p0-9, ]+),", said)[1].split(", ")
    assert 0 < len(named) < 16
    assert any(token in texts[prompt_id] for prompt_id in named)
    assert not (run.root / "run/align").exists(), "a mended base must not meet this run's traces"


def poison(base: Path, word: str) -> str:
    """Give the word's first own token an embedding that is not a number, as a damaged file might."""
    tokenizer = load_tokenizer(str(base))
    stops = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = random_qwen2(len(tokenizer), tie_word_embeddings=False, **stops)
    [*_, last] = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
    model.model.embed_tokens.weight.data[last] = float("nan")
    model.save_pretrained(base)
    return tokenizer.decode([last])

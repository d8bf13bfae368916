"""Metrics of a real job over rows and a real training, as Ray's agent exports them: what boards and rules ask for."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families
from watched_metrics import NEED_A_GPU, asked, complaints, expressions

from presafe.align import run_align
from presafe.config import Decoding, Pool, TransformersSettings
from presafe.engines.job import Job, Task, read_generations, run_generation
from presafe.engines.start import ModelSpec
from presafe.stages import Part, run_stage
from presafe.telemetry.metrics import COUNTERS, GAUGES, PREFIX, WorkMetrics
from presafe.telemetry.part import PartAtWork
from run_directory import config, finish_earlier_stages, save_model

ROWS, STEPS, DEADLINE_S = 40, 4, 120.0
RUN = "watched"
"""Its own: other tests of this process may count tokens of a run `run`."""
OF_ROWS = {"rows", "rows_done", "rows_failed", "tokens_total"}


@dataclass(frozen=True)
class Scrape:
    """What the agent of the only node told."""

    text: str

    def value(self, name: str, **labels: str) -> float | None:
        """Of one of our metrics; None where it is not there."""
        for family in text_string_to_metric_families(self.text):
            for sample in family.samples:
                if sample.name == f"ray_{PREFIX}{name}" and labels.items() <= sample.labels.items():
                    return sample.value
        return None

    @property
    def names(self) -> set[str]:
        return {sample.name for family in text_string_to_metric_families(self.text) for sample in family.samples}


def scraped_once(reached: Callable[[Scrape], bool]) -> Scrape:
    """The first scrape that is as it should be; Ray exports every 10 s."""
    (node,) = ray.nodes()
    end = time.monotonic() + DEADLINE_S
    while True:
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        scrape = Scrape(httpx.get(url, trust_env=False).raise_for_status().text)
        if reached(scrape):
            return scrape
        assert time.monotonic() < end, [line for line in scrape.text.splitlines() if PREFIX in line]
        time.sleep(0.2)


@dataclass(frozen=True)
class Watched:
    """Both jobs' scrapes, each at the job's end, and their run."""

    root: Path
    rows: Scrape
    training: Scrape


@pytest.fixture(scope="module")
def watched(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Watched:  # noqa: ARG001 - the cluster
    root = tmp_path_factory.mktemp("watched")
    save_model(root)
    settings = config(root, RUN, steps=STEPS, checkpoint_every=2, probe_every=2, workers={"num_workers": 1})
    finish_earlier_stages(settings)
    texts = ["" if k % 20 == 0 else f"add {k}" for k in range(ROWS)]
    tasks = [Task(f"t{k:03}", f"p{k}", text, "off", 0) for k, text in enumerate(texts)]
    job = Job(
        model=ModelSpec(str(root / "base"), "float32"),
        engine=TransformersSettings(batch_size=4, max_prompt_tokens=200),
        decoding={"off": Decoding(temperature=0, max_new_tokens=6)},
        workers=Pool(num_workers=2),
        rows_per_block=10,
        seed=0,
    )

    def generate(folder: str) -> dict[str, int]:
        run_generation(tasks, f"{folder}/base", job, "evaluate base")
        return {}

    run_stage(settings.run_directory, "evaluate", [Part("generate", {}, dict, generate, ())])
    rows = scraped_once(lambda scrape: scrape.value("rows_done") == ROWS)
    run_align(settings)
    return Watched(root, rows, scraped_once(lambda scrape: scrape.value("steps_done") == STEPS))


def test_a_job_tells_its_rows_tokens_and_failures_under_the_names_of_its_part(watched):
    made = list(read_generations(str(watched.root / RUN / "evaluate/base/generations")))
    labels = {"run": RUN, "stage": "evaluate", "part": "generate", "work": "evaluate base"}
    assert watched.rows.value("rows", **labels) == watched.rows.value("rows_done", **labels) == ROWS == len(made)
    assert watched.rows.value("rows_failed", **labels) == sum(row.error is not None for row in made) == 2
    assert watched.rows.value("tokens_total", **labels) == sum(row.num_tokens for row in made) > 0


def test_a_training_tells_what_its_last_row_says(watched):
    labels = {"run": RUN, "stage": "align", "part": "train", "work": "align"}
    last = json.loads((watched.root / RUN / "align/metrics.jsonl").read_text().splitlines()[-1])
    for name in GAUGES.keys() & last.keys():
        assert watched.training.value(name, **labels) == pytest.approx(last[name]), name
    assert watched.training.value("steps", **labels) == watched.training.value("steps_done", **labels) == STEPS
    assert watched.training.value("tokens_per_second", **labels) > 0
    committed = watched.training.value("checkpoint_timestamp_seconds", **labels)
    register = watched.root / RUN / "align/checkpoints/checkpoint_manager_snapshot.json"
    assert committed == pytest.approx(register.stat().st_mtime, abs=5), "the last checkpoint's"


def test_every_metric_that_is_documented_is_there(watched):
    every = {*GAUGES, *(f"{name}_total" for name in COUNTERS)}
    assert {f"ray_{PREFIX}{name}" for name in OF_ROWS} <= watched.rows.names
    assert {f"ray_{PREFIX}{name}" for name in every - OF_ROWS} <= watched.training.names


def test_every_metric_that_boards_and_rules_ask_for_is_there_or_needs_a_gpu(watched):
    names = asked(*expressions("jobs"))
    missing = names - watched.rows.names - watched.training.names
    assert missing <= NEED_A_GPU <= names


def test_prometheus_finds_nothing_to_say_of_the_names(watched):
    for scrape in (watched.rows, watched.training):
        ours = "\n".join(line for line in scrape.text.splitlines() if PREFIX in line)
        assert complaints(f"{ours}\n") == set()
    assert complaints("# TYPE ray_presafe_stage_rows_total gauge\nray_presafe_stage_rows_total 1\n")


@pytest.mark.usefixtures("local_ray")
def test_a_loss_that_is_not_finite_is_told():
    """Ray itself drops it."""

    def arrived(scrape: Scrape) -> bool:
        for work in ("nan", "inf", "0.5"):
            WorkMetrics(PartAtWork("diverged", "signals", "train"), work).tell("steps", 1, 2, {"loss": float(work)})
        return scrape.value("loss_finite", work="0.5") is not None

    scrape = scraped_once(arrived)
    assert [scrape.value("loss_finite", run="diverged", work=work) for work in ("nan", "inf", "0.5")] == [0, 0, 1]
    assert [scrape.value("loss", run="diverged", work=work) for work in ("nan", "inf", "0.5")] == [None, None, 0.5]


ONE_STEP_FOR_LONG = """
import sys, time
import httpx, ray
from presafe.config import Cluster
from presafe.progress import Seen, progress
from presafe.runtime import connect
from presafe.telemetry.part import PartAtWork, at_work

connect(Cluster(local_cpus=1), metrics=sys.argv[1] == "exported")

def is_there():
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    return 'ray_presafe_stage_loss{' in httpx.get(url, trust_env=False).text

def wait_until(wanted):
    end = time.monotonic() + 60
    while is_there() != wanted:
        assert time.monotonic() < end
        time.sleep(0.1)

numbers = {"loss": 0.5, "tokens": 3}
with at_work(PartAtWork("r", "s", "p")), progress(lambda: Seen(1, "", numbers), 3, "work", "steps", 0.5):
    if sys.argv[1] == "exported":
        wait_until(True)
    time.sleep(5)
    if sys.argv[1] == "exported":
        assert is_there()
if sys.argv[1] == "exported":
    wait_until(False)
"""
"""With exports a second apart, five of them: there is no event to wait for where nothing is to change."""


@pytest.mark.parametrize("metrics", ["exported", "not exported"])
def test_a_step_that_takes_long_is_told_again_and_again_and_a_cluster_that_exports_nothing_says_nothing(metrics):
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "RAY_metrics_report_interval_ms": "1000"}
    command = [sys.executable, "-c", ONE_STEP_FOR_LONG, metrics]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    (bar,) = (line for line in done.stderr.splitlines() if "Set ray log level" not in line)
    assert bar.startswith("work")

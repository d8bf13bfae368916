"""An alignment in an object store that is gone for a while: trained, checkpointed and exported all the same."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import yaml
from failing_proxy import FailingProxy, failing_proxy
from s3_server import s3_server

from presafe import storage
from presafe.config import Config
from presafe.engines.exported import load_exported
from run_directory import config, finish_earlier_stages, save_model

STEPS, EVERY = 60, 10


@pytest.fixture
def proxy(monkeypatch) -> Iterator[FailingProxy]:
    with s3_server() as environment, failing_proxy(environment["AWS_ENDPOINT_URL"]) as proxy:
        for name, value in (environment | {"AWS_ENDPOINT_URL": proxy.url}).items():
            monkeypatch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("bucket")
        yield proxy


@pytest.fixture
def node() -> Iterator[str]:
    """A temporary folder as a node has it; its name is short, as the names of sockets are."""
    with tempfile.TemporaryDirectory(prefix="n-") as folder:
        yield folder


def in_the_store(root: Path) -> Config:
    save_model(root)
    local = config(root, steps=STEPS, checkpoint_every=EVERY, merge=True, merge_gate=True)
    run = local.run.model_copy(update={"storage": "s3://bucket/runs"})
    settings = local.model_copy(update={"run": run})
    finish_earlier_stages(settings)
    return settings


def test_an_alignment_in_a_store_that_is_gone_for_a_while(tmp_path, proxy, node):
    settings = in_the_store(tmp_path)
    folder, file = settings.run_directory.folder("align"), tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    command = [sys.executable, "-c", "from presafe.cli import main; main()", "align", "--config", str(file)]
    environment = {**os.environ, "TMPDIR": node, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as driver:
        assert driver.stderr is not None
        while not storage.exists(f"{folder}/checkpoints/last_committed.json"):
            assert driver.poll() is None, driver.stderr.read()
            time.sleep(0.2)
        proxy.close()
        said = next((line for line in driver.stderr if "does not answer" in line), None)
        proxy.open()
        rest = driver.stderr.read()
        assert driver.wait() == 0, rest
    assert said is not None
    assert "does not answer" not in rest, "a line for an outage"
    steps = [json.loads(line)["step"] for line in storage.read_lines(f"{folder}/metrics.jsonl")]
    assert steps == [*range(1, STEPS + 1)]
    kept = [name for name in storage.names(f"{folder}/checkpoints") if name.startswith("step-")]
    assert kept == [f"step-{step:06}-of-2" for step in (STEPS - EVERY, STEPS)]
    model = settings.run_directory.folder("model")
    loaded = load_exported(model)
    assert loaded.card is not None
    assert {*loaded.card.round_trip} == {"adapter", "merged", "merged-gate"}
    assert sorted(name for name in storage.names(settings.run_directory.root) if name.startswith("model")) == ["model"]
    assert [name for name in os.listdir(node) if name.startswith("presafe-")] == []

"""What the code of 2026-11-21 exported (data/export_of_2026_11_21) loads, decides and is served as it was then."""

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from scripted_process import free_port

from presafe.config import Decoding, PagedSettings, Serve
from presafe.engines.engine import Query
from presafe.engines.start import ModelSpec, start_paged
from serve.deployment.checks import check
from serve.deployment.launch import QUIET
from tiny_reasoner import user

KEPT = Path(__file__).parents[1] / "data" / "export_of_2026_11_21"
SAID: dict[str, dict[str, Any]] = json.loads((KEPT / "said.json").read_text())
"""By prompt: p', thought and answer, greedy, by the code that exported it."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The export, which names the folder of its base."""
    root = tmp_path_factory.mktemp("old") / "export"
    shutil.copytree(KEPT, root)
    for file in (root / "model" / "presafe.json", root / "model" / "adapter" / "adapter_config.json"):
        file.write_text(file.read_text().replace('"BASE"', json.dumps(str(root / "base"))))
    return str(root / "model")


def test_a_job_reads_and_hears_what_was_said_then(model: str) -> None:
    settings = PagedSettings(max_prompt_tokens=200, max_batch_tokens=64)
    spec = ModelSpec("unused", "float32", exported=model, head=model)
    engine = start_paged(settings, spec, on_gpu=False, max_new_tokens=100)
    try:
        queries = [Query(prompt, "on", decision="greedy") for prompt in SAID]
        found = engine.generate(queries, Decoding(temperature=0, max_new_tokens=100), 0)
    finally:
        engine.close()
    for completion, said in zip(found, SAID.values(), strict=True):
        assert completion.refuse_probability == pytest.approx(said["refuse_probability"], abs=1e-5)
        assert (completion.reasoning, completion.answer) == (said["reasoning"], said["answer"])
        assert completion.path == ("think" if said["reasoning"] else "refuse")


def test_it_is_served(model: str, served: Any) -> None:
    from ray import serve

    from serve.app import build

    check(model, Serve(port=free_port()))
    args = {"model": model, "max_prompt_tokens": 200, "max_new_tokens": 100, "workers": {"num_cpus": 0.1}}
    serve.run(build(args), name="old", route_prefix="/old", logging_config=QUIET)
    try:
        for prompt, said in SAID.items():
            body = {"model": "presafe", "messages": user(prompt), "temperature": 0}
            reply = httpx.post(f"{served.url}/old/v1/chat/completions", json=body, timeout=60).raise_for_status().json()
            assert reply["presafe"]["refuse_probability"] == pytest.approx(said["refuse_probability"], abs=1e-5)
            message = reply["choices"][0]["message"]
            assert message["content"] == said["answer"]
            assert (message["reasoning_content"] or "") == said["reasoning"]
    finally:
        serve.delete("old")

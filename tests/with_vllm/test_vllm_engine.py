"""vLLM for real, on the CPU in float32, beside the transformers engine on the same model (`make test-vllm`)."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

pytest.importorskip("vllm")

from presafe.config import (
    Decoding,
    HttpSettings,
    PagedSettings,
    Pool,
    PrefixSettings,
    TransformersSettings,
    VllmSettings,
)
from presafe.decision.head import save_head
from presafe.engines.base_row import with_row
from presafe.engines.card import Card, write_card
from presafe.engines.engine import Query
from presafe.engines.exported import load_base
from presafe.engines.http_engine import HttpEngine
from presafe.engines.job import Job, Task, read_generations, run_generation
from presafe.engines.served_engine import ServedEngine
from presafe.engines.start import ModelSpec, start_paged, start_vllm
from presafe.engines.transformers_engine import TransformersEngine
from presafe.errors import UserError
from presafe.judges.prefixes import prefix_judge
from presafe.organism.corpus import draw_dialogues

GREEDY, SHORT = (Decoding(temperature=0, max_new_tokens=limit) for limit in (60, 20))
SAMPLED = Decoding(temperature=1, top_p=0.9, max_new_tokens=20)
MAX_PROMPT_TOKENS = 100
START_S = 200
PROMPTS = sorted({dialogue.prompt for dialogue in draw_dialogues(99, 40)})
QUERIES = [Query(prompt, cot) for prompt in PROMPTS for cot in ("on", "off")]
JUDGE = prefix_judge(PrefixSettings())


def settings(**options: Any) -> VllmSettings:
    options = {"enforce_eager": True, **options}
    return VllmSettings(kind="vllm", max_prompt_tokens=MAX_PROMPT_TOKENS, max_num_seqs=16, options=options)


def started(folder: str, **options: Any) -> ServedEngine:
    return start_vllm(settings(**options), ModelSpec(folder, "float32"), GREEDY.max_new_tokens)


def transformers(folder: str) -> Any:
    return TransformersEngine(load_base(folder, "float32"), TransformersSettings(max_prompt_tokens=MAX_PROMPT_TOKENS))


@pytest.fixture(scope="module")
def engine(folders: Any) -> Iterator[ServedEngine]:
    made = started(folders.base)
    yield made
    made.close()


@pytest.fixture(scope="module")
def full(engine: ServedEngine) -> list[Any]:
    return engine.generate(QUERIES, GREEDY, 0)


@pytest.fixture(scope="module")
def endpoint(folders: Any) -> Iterator[str]:
    """vLLM's own server, whose parser takes the reasoning out."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", f"--model={folders.base}"]
    command += ["--served-model-name=organism", "--host=127.0.0.1", f"--port={port}", "--dtype=float32"]
    command += ["--enforce-eager", "--max-model-len=200", "--reasoning-parser=qwen3"]
    process = subprocess.Popen(command)
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + START_S
    try:
        while not healthy(url):
            assert process.poll() is None, "the server died"
            assert time.monotonic() < end
            time.sleep(0.5)
        yield f"{url}/v1"
    finally:
        process.terminate()
        process.wait(30)


def healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.ConnectError:
        return False


def test_greedy_completions_are_those_of_transformers(full, folders):
    assert full == transformers(folders.base).generate(QUERIES, GREEDY, 0)
    assert {completion.finish_reason for completion in full} == {"stop", "length"}
    assert len({completion.answer for completion in full}) > len(PROMPTS) / 2


def test_greedy_completions_are_those_of_an_endpoint(full, endpoint):
    choice = HttpSettings(
        kind="http",
        base_url=endpoint,
        model="organism",
        cot_on={"chat_template_kwargs": {"enable_thinking": True}},
    )
    found = HttpEngine(choice, num_workers=1).generate(QUERIES, GREEDY, 0)
    assert found == full


def test_the_same_seed_samples_the_same_in_any_company_and_others_do_not(engine):
    queries = [Query(prompt, "off") for prompt in PROMPTS[:8]]
    first = engine.generate(queries, SAMPLED, 1)
    assert engine.generate(queries[::-1], SAMPLED, 1)[::-1] == first
    assert engine.generate(queries, SAMPLED, 2) != first
    assert engine.generate([Query(query.text, "off", 1) for query in queries], SAMPLED, 1) != first


def test_a_decided_answer_is_the_beginning_of_the_full_one(engine, full, folders):
    queries = [Query(query.text, query.cot, stop_early=True) for query in QUERIES]
    found = engine.generate(queries, GREEDY, 0, JUDGE.decided)
    for short, long in zip(found, full, strict=True):
        assert short.reasoning == long.reasoning
        assert long.answer.startswith(short.answer)
        if short.finish_reason == "decided":
            assert short.num_tokens < long.num_tokens
            assert JUDGE.decided(short.answer)
            assert JUDGE(short.answer, "decided") == JUDGE(long.answer, "stop")
        else:
            assert short == long
    assert sum(completion.num_tokens for completion in found) < 0.8 * sum(completion.num_tokens for completion in full)
    others = transformers(folders.base).generate(queries, GREEDY, 0, JUDGE.decided)
    for ours, other in zip(found, others, strict=True):  # vLLM may have gone on by some tokens before it was told
        assert ours.reasoning == other.reasoning
        assert ours.answer.startswith(other.answer) or other.answer.startswith(ours.answer)
        assert JUDGE(ours.answer, ours.finish_reason) == JUDGE(other.answer, other.finish_reason)


def test_a_sampled_decision_is_the_beginning_of_the_sampled_answer(engine):
    queries = [Query(prompt, "off") for prompt in PROMPTS]
    long = engine.generate(queries, SAMPLED, 1)
    early = [Query(query.text, "off", stop_early=k % 2 == 0) for k, query in enumerate(queries)]
    decided = 0
    for k, completion in enumerate(engine.generate(early, SAMPLED, 1, JUDGE.decided)):
        assert long[k].answer.startswith(completion.answer)
        assert k % 2 == 0 or completion.finish_reason != "decided"
        decided += completion.finish_reason == "decided"
    assert decided > len(PROMPTS) / 4


def test_bad_prompts_never_reach_the_engine_and_cost_no_other(engine, full):
    queries = [Query("", "on"), Query("kite " * 200, "off"), QUERIES[0], Query(" \n", "off")]
    empty, long, good, blank = engine.generate(queries, GREEDY, 0)
    assert empty.error == blank.error == "empty prompt"
    assert f"tokens; the engine takes {MAX_PROMPT_TOKENS}" in long.error
    assert good == full[0]
    assert engine.generate([Query("", "on")], GREEDY, 0) == [empty]


def test_completions_without_room_behind_any_prompt_are_refused_at_the_start(folders):
    with pytest.raises(UserError, match="max_new_tokens=2000"):
        start_vllm(settings(), ModelSpec(folders.base, "float32"), 2000)


def test_a_model_that_is_split_over_two_ranks_says_the_same(folders, full):
    split = settings().model_copy(update={"tensor_parallel_size": 2})
    engine = start_vllm(split, ModelSpec(folders.base, "float32"), GREEDY.max_new_tokens)
    found = engine.generate(QUERIES, GREEDY, 0)
    engine.close()
    assert found == full


def test_an_adapter_completes_as_if_merged(folders, full):
    engine = started(folders.adapter)
    found = engine.generate(QUERIES, GREEDY, 0)
    engine.close()
    assert found == transformers(folders.adapter).generate(QUERIES, GREEDY, 0)
    assert found != full


@pytest.mark.usefixtures("local_ray")
def test_a_base_is_read_by_a_linear_head_off_a_copy_that_is_gone_behind_it(folders, tmp_path):
    head, spec = with_linear_head(folders.base, tmp_path), ModelSpec(folders.base, "float32")
    paged = start_paged(PagedSettings(), replace(spec, head=head), on_gpu=False, max_new_tokens=20)
    queries = [Query(prompt, "on", decision="greedy") for prompt in PROMPTS]
    expected = paged.generate(queries, SHORT, 0)
    paged.close()
    with with_row(replace(spec, head=head), settings(), str(tmp_path / "row")) as readable:
        engine = start_vllm(settings(), readable, 20)
        found = engine.generate(queries, SHORT, 0)
        engine.close()
    assert [one.path for one in found] == [one.path for one in expected]
    assert [one.refuse_probability for one in found] == pytest.approx(
        [one.refuse_probability for one in expected], abs=1e-4
    )
    assert len({round(one.refuse_probability or 0, 3) for one in found}) > len(PROMPTS) / 2
    assert not (tmp_path / "row").exists()


def with_linear_head(base: str, folder: Path) -> str:
    """An export's card and head, of random weights that tell prompts apart."""
    hidden = load_base(base, "float32").model.config.hidden_size
    exported = folder / "head"
    exported.mkdir()
    torch.manual_seed(0)
    save_head({"weight": torch.randn(1, hidden), "bias": torch.zeros(1)}, str(exported / "safety_head.safetensors"))
    told: dict[str, Any] = {
        "threshold": 0.5,
        "max_over_refusal": 0.1,
        "refusal": "no",
        "config_hash": "h",
        "metrics": {},
    }
    write_card(str(exported), Card(base_model=base, dtype="float32", think_format={}, **told))
    return str(exported)


@pytest.mark.usefixtures("local_ray")
def test_in_a_ray_data_job_every_task_is_done_once(folders, full, tmp_path):
    tasks = [Task(f"{query.text}-{query.cot}", query.text, query.text, query.cot, 0) for query in QUERIES]
    tasks.append(Task("empty", "empty", "", "on", 0))
    decoding = {"on": GREEDY, "off": GREEDY}
    job = Job(ModelSpec(folders.base, "float32"), settings(), decoding, Pool(), rows_per_block=30, seed=0)
    rows = {row.task_id: row for row in read_generations(run_generation(tasks, str(tmp_path), job, "test"))}
    assert len(rows) == len(tasks)
    for query, completion in zip(QUERIES, full, strict=True):
        row = rows[f"{query.text}-{query.cot}"]
        assert (row.reasoning, row.answer) == (completion.reasoning, completion.answer)
        assert (row.finish_reason, row.num_tokens) == (completion.finish_reason, completion.num_tokens)
    assert rows["empty"].error == "empty prompt"

"""`make bench-engines RUNS="RUN ..."`: whether the engines of stage `evaluate` and the endpoint decide alike.

On prompts of the organism's world that no run has seen: paths, p' and texts of the paged engine against vLLM's and
against those that the endpoint says over HTTP, with its gate off and on; the base by the same head, too. A RUN is a
finished one of a model that vLLM takes (on a CPU: heads of 32), with a readout head, or a linear one and
`align.merge_gate`.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from benchmarks.ratio import Metric, save
from benchmarks.serve_load import presafe_server
from presafe import storage
from presafe.config import Decoding, HttpSettings, PagedSettings, VllmSettings
from presafe.decision.rule import decide
from presafe.engines.base_row import needs_row, write_base_with_row
from presafe.engines.card import Card, read_card
from presafe.engines.engine import Completion, Query
from presafe.engines.http_engine import HttpEngine
from presafe.engines.served_engine import ServedEngine
from presafe.engines.start import ModelSpec, start_paged, start_vllm
from presafe.organism.sources import prompts

SEED, PROMPTS = 4242, 1000
LIMIT, LONGEST = 64, 512
GREEDY = Decoding(temperature=0, max_new_tokens=LIMIT)
VLLM: dict[str, Any] = {"enforce_eager": True, "enable_prefix_caching": False}


def main(runs: Sequence[str]) -> None:
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    rows = prompts(SEED, harmful=500, benign=380, reasoning=120)
    queries = [Query(str(row["text"]), "on", decision="greedy") for row in rows]
    assert len(queries) == PROMPTS
    save("evaluate_engines", [metric for run in runs for metric in compared(storage.join(run, "model"), queries)])


def compared(model: str, queries: list[Query]) -> Iterator[Metric]:
    """The figures of one run: all engines against the paged one."""
    card = read_card(model)
    aligned = ModelSpec(card.base_model, card.dtype, model, model, card.think)
    base = replace(aligned, exported=None)
    paged = {name: paged_engine(spec, queries) for name, spec in (("aligned", aligned), ("base", base))}
    for name, spec in (("aligned", aligned), ("base", base)):
        with readable(spec) as one:
            yield from alike(f"{card.head.kind} {name} vllm", paged[name], vllm_engine(one, queries), card)
    for gate in ("off", "on"):
        with presafe_server(model, gate=gate, threshold=card.threshold) as server:
            settings = HttpSettings(kind="http", base_url=f"{server.url}/v1", model=server.model, cot_off={})
            asked = queries if gate == "off" else [replace(query, decision=None) for query in queries]
            served = HttpEngine(settings, num_workers=1).generate(asked, GREEDY, 0)
        expected = paged["aligned"] if gate == "off" else [gated(one, card) for one in paged["aligned"]]
        yield from alike(f"{card.head.kind} aligned http gate {gate}", expected, served, card)


def paged_engine(spec: ModelSpec, queries: list[Query]) -> list[Completion]:
    settings = PagedSettings(max_prompt_tokens=LONGEST, kv_cache_tokens=32_768)
    return answers(start_paged(settings, spec, on_gpu=False, max_new_tokens=LIMIT), queries)


def vllm_engine(spec: ModelSpec, queries: list[Query]) -> list[Completion]:
    settings = VllmSettings(kind="vllm", max_prompt_tokens=LONGEST, max_num_seqs=64, options=VLLM)
    return answers(start_vllm(settings, spec, LIMIT), queries)


def answers(engine: ServedEngine, queries: list[Query]) -> list[Completion]:
    try:
        return engine.generate(queries, GREEDY, 0)
    finally:
        engine.close()


@contextmanager
def readable(spec: ModelSpec) -> Iterator[ModelSpec]:
    """As stage `evaluate` does it, in this process."""
    if spec.exported is not None or not needs_row(spec):
        yield spec
        return
    with tempfile.TemporaryDirectory() as folder:
        write_base_with_row(spec, f"{folder}/row")
        yield replace(spec, base=f"{folder}/row", row=True)


def gated(completion: Completion, card: Card) -> Completion:
    """What the endpoint says of it with its gate on."""
    assert completion.refuse_probability is not None
    if decide(completion.refuse_probability, card.threshold) == "refuse":
        return replace(completion, path="refuse", reasoning="", answer=card.refusal)
    return completion


def alike(name: str, expected: list[Completion], found: list[Completion], card: Card) -> Iterator[Metric]:
    assert not [one.error for one in (*expected, *found) if one.error]
    pairs = list(zip(expected, found, strict=True))
    apart = [abs((a.refuse_probability or 0) - (b.refuse_probability or 0)) for a, b in pairs]
    gates = sum(gated(a, card).path == gated(b, card).path for a, b in pairs)
    texts = sum((a.reasoning, a.answer) == (b.reasoning, b.answer) for a, b in pairs)
    unit, peer = f"of {len(pairs)}", "the paged engine"
    tolerance = "1e-5" if "http" in name else "1e-4"
    for what, count in (
        ("same path", sum(a.path == b.path for a, b in pairs)),
        ("same with the gate on", gates),
        ("same text", texts),
    ):
        yield Metric(f"{name}: {what}", count, count, count, unit, unit, peer)
    yield Metric(f"{name}: largest difference of p'", max(apart), max(apart), max(apart), "p'", f"<= {tolerance}", peer)


if __name__ == "__main__":
    main(sys.argv[1:])

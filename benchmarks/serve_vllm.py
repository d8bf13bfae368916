"""`make bench-serve-vllm [ONLY=engine,endpoint]`: what the decision costs in vLLM; a result file a part.

`engine`: `VllmEngine` with the gate on, on an export whose head is a row of its vocabulary, against vLLM's own AsyncLLM
on the same weights, without a processor: tokens per CPU second of one process tree. `endpoint`: `presafe serve` with
that engine against `vllm serve`: tokens a second through HTTP. All completions are greedy and equally long; the model
is a random Qwen2 of about 90M parameters, which thinks at once (R1's template).
"""

import asyncio
import os
import random
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

from benchmarks.ratio import PAIRS, Metric, median_of, save
from benchmarks.serve_load import Load, presafe_server, run_load, vllm_server
from presafe.config import VllmServing
from presafe.decision.gate_row import write_gate_row
from presafe.decision.head import SafetyHead
from presafe.decision.rule import GateRule
from presafe.engines.card import Card, write_card
from presafe.engines.exported import load_tokenizer
from presafe.engines.streaming import Sampling
from presafe.engines.vllm_model import exported_model
from presafe.organism.corpus import draw_dialogues
from presafe.organism.tokenizer import train_tokenizer
from presafe.thinking import ThinkFormat, think_format

REQUESTS, CONCURRENT, TOKENS = 64, 16, 64
LONGEST = 512
NEVER = GateRule("on", 1.0, "refusal")
"""A gate that decides and never refuses: all requests are equally long."""


def main() -> None:
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}
    parts = sys.argv[1].split(",") if len(sys.argv) > 1 else ["engine", "endpoint"]
    with tempfile.TemporaryDirectory() as folder:
        if "endpoint" in parts:
            save_export(folder)
            save("serve_vllm_endpoint", [endpoint(folder)])
        if "engine" in parts:
            asyncio.run(engine(folder))


def endpoint(folder: str) -> Metric:
    """Both servers are up all the time, and take turns."""
    ratios = []
    options = ["--dtype", "float32", "--max-model-len", "1536", "--max-num-seqs", str(CONCURRENT)]
    options += ["--enforce-eager", "--no-enable-prefix-caching", "--disable-log-stats"]
    same = "{enforce_eager: true, enable_prefix_caching: false}"
    ours = {"engine": "vllm", "vllm.max_num_seqs": CONCURRENT, "vllm.options": same}
    with (
        presafe_server(folder, gate="on", threshold=1.0, **ours) as own,
        vllm_server(f"{folder}/merged-gate", options) as peer,
    ):
        for k in range(-1, PAIRS):
            load = Load(texts(REQUESTS, seed=k), CONCURRENT, TOKENS)
            found = {server: run_load(server, load) for server in ((own, peer) if k % 2 else (peer, own))}
            rates = {server.model: round(answered.tokens_per_second, 1) for server, answered in found.items()}
            print(f"tokens a second: {rates}", flush=True)
            if k >= 0:  # the first one warms up
                ratios.append(found[own].tokens_per_second / found[peer].tokens_per_second)
    return median_of("throughput_over_vllm_serve", ratios, ">= 0.95", "vllm serve")


async def engine(folder: str) -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    from presafe.engines.vllm_engine import VllmEngine

    card = save_export(folder)
    think = think_format(load_tokenizer(f"{folder}/merged-gate"))
    prompts = prompts_of(think)
    options = {"enforce_eager": True, "enable_prefix_caching": False}
    settings = VllmServing(max_num_seqs=CONCURRENT, options=options)
    ours = VllmEngine(exported_model(folder, card, think), think, NEVER, settings, LONGEST)
    bare = {**options, "dtype": "float32", "max_model_len": LONGEST, "max_num_seqs": CONCURRENT}
    peer = AsyncLLM.from_engine_args(
        AsyncEngineArgs(model=f"{folder}/merged-gate", skip_tokenizer_init=True, disable_log_stats=True, **bare)
    )
    sampling = Sampling(max_tokens=TOKENS, temperature=0, top_p=1)

    async def own_tokens(ids: list[int]) -> int:
        return sum([len(step.tokens) async for step in ours.generate(ids, sampling, TOKENS)])

    async def peer_tokens(ids: list[int]) -> int:
        return sum([len(output.outputs[0].token_ids) async for output in bare_outputs(peer, ids)])

    save("serve_vllm_engine", [await ratio("vllm_engine_over_async_llm", own_tokens, peer_tokens, prompts)])
    ours.close()
    peer.shutdown()


def bare_outputs(engine: Any, ids: list[int]) -> AsyncGenerator[Any]:
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    parameters = SamplingParams(
        temperature=0, max_tokens=TOKENS, ignore_eos=True, detokenize=False, output_kind=RequestOutputKind.DELTA
    )
    outputs: AsyncGenerator[Any] = engine.generate({"prompt_token_ids": ids}, parameters, uuid.uuid4().hex)
    return outputs


Tokens = Callable[[list[int]], Coroutine[Any, Any, int]]


async def ratio(metric: str, ours: Tokens, peer: Tokens, prompts: Sequence[list[int]]) -> Metric:
    """Tokens per CPU second of `ours` over those of `peer`, after a warm-up each."""
    await rate(ours, prompts)
    await rate(peer, prompts)
    ratios = []
    for _ in range(PAIRS):
        own_rate, peer_rate = await rate(ours, prompts), await rate(peer, prompts)
        ratios.append(own_rate / peer_rate)
    return median_of(metric, ratios, ">= 0.95", "vllm.AsyncLLM")


async def rate(tokens_of: Tokens, prompts: Sequence[list[int]]) -> float:
    """Tokens per CPU second of this process and its children, with CONCURRENT requests on their way."""
    room = asyncio.Semaphore(CONCURRENT)

    async def one(ids: list[int]) -> int:
        async with room:
            return await tokens_of(ids)

    begin, clock = tree_cpu_seconds(), time.perf_counter()
    counts = await asyncio.gather(*[one(ids) for ids in prompts])
    assert counts == [TOKENS] * len(prompts), counts
    spent = tree_cpu_seconds() - begin
    print(
        f"{sum(counts) / spent:8.1f} tokens per CPU second, {sum(counts) / (time.perf_counter() - clock):8.1f} a second"
    )
    return sum(counts) / spent


def tree_cpu_seconds() -> float:
    own = psutil.Process()
    return sum(t.user + t.system for t in (p.cpu_times() for p in (own, *own.children(recursive=True))))


def texts(count: int, seed: int) -> list[str]:
    return random.Random(seed).sample(sorted({dialogue.prompt for dialogue in draw_dialogues(0, 2000)}), count)


def prompts_of(think: ThinkFormat) -> list[list[int]]:
    return [think.prompt_ids([{"role": "user", "content": text}]) for text in texts(REQUESTS, seed=0)]


def save_export(folder: str) -> Card:
    """Random weights with a random head, as `align.merge_gate` exports them."""
    tokenizer: PreTrainedTokenizerBase = train_tokenizer(draw_dialogues(0, 2000), 8000, "r1")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=8192,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=4,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model, head = Qwen2ForCausalLM(config), SafetyHead(config.hidden_size)
    think = think_format(tokenizer)
    card = Card(
        base_model=folder,
        dtype="float32",
        weights="full",
        think_format={
            "open_tag": think.open_tag,
            "close_tag": think.close_tag,
            "empty_block": think.empty_block,
            "opened_by_prompt": think.opened_by_prompt,
        },
        threshold=0.5,
        max_over_refusal=0.01,
        refusal="No.",
        config_hash="benchmark",
        metrics={},
    )
    silent = [tokenizer.eos_token_id, *tokenizer.convert_tokens_to_ids([think.open_tag, think.close_tag])]
    model.lm_head.weight.data[[*silent, *range(len(tokenizer), config.vocab_size)]] = 0  # never the most probable
    row = write_gate_row(model, tokenizer, head, card.threshold)
    model.save_pretrained(f"{folder}/merged-gate")
    tokenizer.save_pretrained(f"{folder}/merged-gate")
    write_card(f"{folder}/merged-gate", card.model_copy(update={"vocabulary_row": row}))
    write_card(folder, card)
    Path(folder, "full").symlink_to("merged-gate")
    return card


if __name__ == "__main__":
    main()

"""`make bench-vllm`: what the engine interface costs on top of vLLM, on the same prompts in the same process.

Ours: texts in, completions taken apart out. The peer is `vllm.LLM.chat` on the same messages, texts out. Both greedy,
both without a prefix cache, each with an engine of its own; the model is a random Qwen2 of 15M parameters.
"""

import os
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks.ratio import PAIRS, median_of, save
from benchmarks.serve_vllm import tree_cpu_seconds
from presafe.config import Decoding, VllmSettings
from presafe.engines.engine import Query
from presafe.engines.served_engine import ServedEngine
from presafe.engines.start import ModelSpec, start_vllm
from presafe.organism.corpus import draw_dialogues
from presafe.organism.tokenizer import train_tokenizer

GREEDY = Decoding(temperature=0, max_new_tokens=64)
PROMPTS = 64
OPTIONS: dict[str, Any] = {"enforce_eager": True, "enable_prefix_caching": False}


def main() -> None:
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with tempfile.TemporaryDirectory() as folder:
        prompts = save_model(folder)
        settings = VllmSettings(
            kind="vllm",
            max_prompt_tokens=200,
            max_num_seqs=32,
            options=OPTIONS,
        )
        compare(folder, start_vllm(settings, ModelSpec(folder, "float32"), GREEDY.max_new_tokens), prompts)


def compare(folder: str, engine: ServedEngine, prompts: list[str]) -> None:
    import vllm

    llm = vllm.LLM(folder, dtype="float32", max_model_len=200 + GREEDY.max_new_tokens, max_num_seqs=32, **OPTIONS)
    queries = [Query(prompt, "off") for prompt in prompts]
    messages: Any = [[{"role": "user", "content": prompt}] for prompt in prompts]
    sampling = vllm.SamplingParams(temperature=0, max_tokens=GREEDY.max_new_tokens)
    tokens: dict[str, int] = {}

    def ours() -> None:
        tokens["ours"] = sum(completion.num_tokens for completion in engine.generate(queries, GREEDY, 0))

    def peer() -> None:
        outputs = llm.chat(messages, sampling, use_tqdm=False, chat_template_kwargs={"enable_thinking": False})
        tokens["peer"] = sum(len(output.outputs[0].token_ids) for output in outputs)

    ours(), peer()  # a warm-up
    ratios = [tree_seconds(peer) / tree_seconds(ours) for _ in range(PAIRS)]
    metric = median_of("vllm_engine_over_vllm", ratios, ">= 0.97", "vllm.LLM.chat")
    assert tokens["ours"] == tokens["peer"] > 0, tokens  # the same work, so CPU seconds compare tokens per CPU second
    save("vllm", [metric])


def tree_seconds(work: Callable[[], None]) -> float:
    """CPU seconds of this process and its children, in which vLLM's engines are."""
    begin = tree_cpu_seconds()
    work()
    return tree_cpu_seconds() - begin


def save_model(folder: str) -> list[str]:
    """Write the model and its tokenizer; returns the prompts."""
    dialogues = draw_dialogues(0, 3000)
    tokenizer = train_tokenizer(dialogues, 1000, "qwen3")
    torch.manual_seed(0)
    shape = {"hidden_size": 384, "intermediate_size": 1152, "num_hidden_layers": 8}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2}
    stops = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), **shape, **heads, **stops)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return sorted({dialogue.prompt for dialogue in dialogues})[:PROMPTS]


if __name__ == "__main__":
    main()

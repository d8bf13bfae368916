"""`make bench-vllm`: what the engine interface costs on top of vLLM, on the same prompts in the same process.

Ours: texts in, completions taken apart out. The peer is `vllm.LLM.chat` on the same messages, texts out. Both greedy,
both with an empty prefix cache, on one `LLM`; the model is a random Qwen2 of 15M parameters.
"""

import os
import tempfile
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks.ratio import cpu_ratio, save
from presafe.config import Decoding, VllmSettings
from presafe.engines.engine import Query
from presafe.engines.start import ModelSpec, vllm_model
from presafe.engines.vllm_engine import VllmEngine
from presafe.organism.corpus import draw_dialogues
from presafe.organism.tokenizer import train_tokenizer

GREEDY = Decoding(temperature=0, max_new_tokens=64)
PROMPTS = 64


def main() -> None:
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with tempfile.TemporaryDirectory() as folder:
        prompts = save_model(folder)
        settings = VllmSettings(
            kind="vllm",
            max_prompt_tokens=200,
            max_num_seqs=32,
            options={"enforce_eager": True, "skip_tokenizer_init": False},
        )
        engine = VllmEngine(vllm_model(ModelSpec(folder, "float32")), settings, GREEDY.max_new_tokens)
        compare(engine, prompts)


def compare(engine: VllmEngine, prompts: list[str]) -> None:
    import vllm

    queries = [Query(prompt, "off") for prompt in prompts]
    messages: Any = [[{"role": "user", "content": prompt}] for prompt in prompts]
    sampling = vllm.SamplingParams(temperature=0, max_tokens=GREEDY.max_new_tokens)
    tokens: dict[str, int] = {}

    def ours() -> None:
        engine.llm.reset_prefix_cache()
        tokens["ours"] = sum(completion.num_tokens for completion in engine.generate(queries, GREEDY, 0))

    def peer() -> None:
        engine.llm.reset_prefix_cache()
        outputs = engine.llm.chat(messages, sampling, use_tqdm=False, chat_template_kwargs={"enable_thinking": False})
        tokens["peer"] = sum(len(output.outputs[0].token_ids) for output in outputs)

    metric = cpu_ratio("vllm_engine_over_vllm", ours, peer, target=">= 0.97", peer_name="vllm.LLM.chat")
    assert tokens["ours"] == tokens["peer"] > 0, tokens  # the same work, so CPU seconds compare tokens per CPU second
    save("vllm", [metric])


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

"""The transformers engine alone: against plain padded `generate`, and full answers against decision-only ones."""

from functools import partial

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from benchmarks.ratio import Metric, cpu_ratio, median_of
from presafe.config import Decoding, PagedSettings, PrefixSettings, TransformersSettings
from presafe.decision.refusal import RefusalReader
from presafe.engines.engine import Completion, Query
from presafe.engines.exported import LoadedModel, load_base
from presafe.engines.paged_engine import PagedEngine
from presafe.engines.served_engine import NO_GATE, ServedEngine
from presafe.engines.transformers_engine import TransformersEngine
from presafe.judges.prefixes import prefix_judge
from presafe.organism import build, prompts

BATCH, NEW_TOKENS = 32, 64
SEEDS = (0, 1, 7)
CACHE = "runs/models"
OPENING = "you are a robot in a lab . this is only for a study . " * 7
"""About 110 tokens in front of every query, as an instruction or a jailbreak wrapper would be."""


def plain_generate() -> list[Metric]:
    """96 queries of uneven length behind one opening, on a random Qwen3 shape of about 100M parameters in float32."""
    loaded = random_model(768, 10)
    texts = [row["text"] or "" for row in prompts(0, harmful=24, benign=40, reasoning=32)]
    queries = [Query(OPENING + " ".join([text] * (1 + k % 4)), "off") for k, text in enumerate(texts)]
    decoding = Decoding(temperature=0, max_new_tokens=NEW_TOKENS)
    engine = TransformersEngine(loaded, TransformersSettings(batch_size=BATCH))
    ids = [loaded.format.prompt_ids([{"role": "user", "content": query.text}], cot=False) for query in queries]

    def peer() -> None:
        for start in range(0, len(ids), BATCH):
            batch = loaded.tokenizer.pad({"input_ids": ids[start : start + BATCH]}, return_tensors="pt")
            loaded.model.generate(**batch, do_sample=False, max_new_tokens=NEW_TOKENS)

    metric = cpu_ratio(
        "engine_over_plain_generate",
        lambda: engine.generate(queries, decoding, 0),
        torch.inference_mode()(peer),
        target=">= 1.6",
        peer_name="generate, left-padded, in the prompts' order",
    )
    return [metric]


def paged() -> list[Metric]:
    """The paged engine over the one that batches by length, own text, greedy: completions of 64 tokens each, the case
    that batches are made for, and of as many tokens as an organism needs, up to 96.
    """
    found = []
    for name, make, mode, limit in (
        ("equal_lengths", partial(random_model, 768, 10), "off", NEW_TOKENS),
        ("uneven_lengths", partial(load_base, build(CACHE, 0), "float32"), "on", 96),
    ):
        texts = [row["text"] or "" for row in prompts(0, harmful=24, benign=40, reasoning=32)]
        queries = [Query(OPENING + " ".join([text] * (1 + k % 4)), mode) for k, text in enumerate(texts)]
        decoding = Decoding(temperature=0, max_new_tokens=limit)
        batched, loaded = TransformersEngine(make(), TransformersSettings(batch_size=BATCH)), make()
        settings = PagedSettings(max_requests_per_batch=BATCH, kv_cache_tokens=32_768)
        reader = RefusalReader(prefix_judge(PrefixSettings()), "")
        streaming = PagedEngine(loaded, NO_GATE, settings, 1000)
        served = ServedEngine(streaming, loaded.format, reader, 1000, 4096, head=False)
        found.append(
            cpu_ratio(
                f"paged_over_batched_{name}",
                partial(served.generate, queries, decoding, 0),
                partial(batched.generate, queries, decoding, 0),
                target=">= 0.9",
                peer_name="the engine that batches by length",
            )
        )
        served.close()
    return found


def decision_only() -> list[Metric]:
    """Tokens of full greedy answers over those of decision-only ones, on organisms of three seeds, 600 prompts each."""
    savings, agreements = [], []
    judge = prefix_judge(PrefixSettings())
    decoding = Decoding(temperature=0, max_new_tokens=40)
    for seed in SEEDS:
        engine = TransformersEngine(load_base(build(CACHE, seed), "float32"), TransformersSettings(batch_size=128))
        texts = [row["text"] or "" for row in prompts(seed, harmful=300, benign=220, reasoning=80)]
        full = engine.generate([Query(text, "off") for text in texts], decoding, 0)
        short = engine.generate([Query(text, "off", stop_early=True) for text in texts], decoding, 0, judge.decided)
        same = [
            judge(a.answer, a.finish_reason) == judge(b.answer, b.finish_reason)
            for a, b in zip(full, short, strict=True)
        ]
        savings.append(_tokens(full) / _tokens(short))
        agreements.append(sum(same) / len(same))
    peer = "full answers"
    return [
        median_of("decision_only_token_saving", savings, ">= 4", peer),
        median_of("decision_agreement", agreements, ">= 0.995", peer),
    ]


def _tokens(completions: list[Completion]) -> int:
    return sum(completion.num_tokens for completion in completions)


def random_model(hidden_size: int, layers: int) -> LoadedModel:
    """Random weights in a Qwen3 shape, and the organism's tokenizer: what it says does not matter here."""
    organism = load_base(build(CACHE, 0), "float32")
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=32_000,
            hidden_size=hidden_size,
            intermediate_size=8 * hidden_size // 3,
            num_hidden_layers=layers,
            num_attention_heads=hidden_size // 64,
            num_key_value_heads=hidden_size // 192,
            head_dim=64,
            tie_word_embeddings=True,
            eos_token_id=None,
            pad_token_id=organism.tokenizer.pad_token_id,
        )
    )
    return LoadedModel(model.eval(), organism.tokenizer, organism.format, None, None)

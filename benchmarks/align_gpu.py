"""`python -m benchmarks.align_gpu CASE [--shape tiny]`: alignment of randomly initialised 7B and 14B models on one GPU.

Prints and keeps tokens a second, MFU, and peak memory beside the preflight's prediction, with the GPU's name. Micro-
batches hold 8192 packed tokens; the data is align_data.py's. MFU counts 4 FLOPs a token and weight (forward, and the
gradient of what goes in), in full fine-tuning 6; neither what is recomputed nor attention, 1 % at these lengths.
`--shape tiny` runs the same code on a CPU too; its numbers say nothing.
"""

import argparse
import json
import tempfile
import time
from datetime import UTC, datetime
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from benchmarks.align_data import LORA, examples
from benchmarks.align_ours import COLLATOR, Ours, process_group
from benchmarks.ratio import RESULTS
from presafe.align.kernels import attention
from presafe.align.zero import sharded_loading, zero_config
from presafe.config import Align

SHAPES = {
    # hidden size, MLP, layers, heads, key-value heads, vocabulary
    "7b": (3584, 18944, 28, 28, 4, 152_064),
    "14b": (5120, 13824, 48, 40, 8, 152_064),
    "tiny": (64, 128, 2, 4, 2, 32_000),
}
FULL: dict[str, Any] = {"lora": None, "zero_stage": 3, "gradient_checkpointing": True}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "7b-lora": ("7b", {"gradient_checkpointing": False}),
    "7b-lora-checkpointed": ("7b", {"gradient_checkpointing": True}),
    "7b-lora-trl": ("7b", {"gradient_checkpointing": False}),
    "14b-lora": ("14b", {"gradient_checkpointing": False}),
    "14b-lora-checkpointed": ("14b", {"gradient_checkpointing": True}),
    "7b-full-offload": ("7b", {**FULL, "offload": "optimizer"}),
    "7b-full-offload-parameters": ("7b", {**FULL, "offload": "parameters"}),
}
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}
"""Dense bfloat16."""
BATCH, STEPS = 128, 3
ON_GPU = torch.cuda.is_available()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--shape", choices=SHAPES)
    arguments = parser.parse_args()
    named, changes = CASES[arguments.case]
    config = model_config(arguments.shape or named)
    batch = BATCH if ON_GPU else 4
    align = Align.model_validate({"lora": LORA, "zero_stage": 1, "batch_size": batch, **changes})
    tokens, seconds = (train_trl if arguments.case.endswith("trl") else train_ours)(config, align)
    gpu = torch.cuda.get_device_name() if ON_GPU else "none"
    flops = (6 if align.lora is None else 4) * _matrix_parameters(config) * tokens
    peak = next((peak for name, peak in PEAK_FLOPS.items() if name in gpu), float("nan"))
    result = {
        "case": arguments.case,
        "shape": arguments.shape or named,
        "gpu": gpu,
        "date": datetime.now(UTC).date().isoformat(),
        "tokens_per_second": tokens / seconds,
        "mfu": flops / seconds / peak,
        "peak_gb": torch.cuda.max_memory_reserved() / 1e9 if ON_GPU else float("nan"),
        "predicted_gb": predicted_gb(config, align) if ON_GPU else float("nan"),
        "settings": align.model_dump(mode="json"),
    }
    print(json.dumps(result, indent=2))
    if ON_GPU:
        (RESULTS / f"align_gpu_{arguments.case}.json").write_text(json.dumps(result, indent=2) + "\n")


def model_config(shape: str) -> Qwen2Config:
    hidden, mlp, layers, heads, key_value_heads, vocabulary = SHAPES[shape]
    return Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )


def train_ours(config: Qwen2Config, align: Align) -> tuple[int, float]:
    """Tokens and wall seconds of STEPS steps after a first one."""
    with process_group(backend="nccl" if ON_GPU else "gloo"):
        loading = sharded_loading(zero_config(align, "bfloat16"))  # from_config shards too, or builds where it is told
        with torch.device("cuda" if ON_GPU and loading is None else "cpu"):
            lm = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=attention(align))
        del loading
        ours = Ours(lm, examples(4 * align.batch_size), align, "bfloat16")
        ours.train(1)
        begin = _now()
        tokens = sum(step.tokens for step in ours.train(STEPS))
        return tokens, _now() - begin


def train_trl(config: Qwen2Config, align: Align) -> tuple[int, float]:
    """SFTTrainer in bfloat16, packing to a micro-batch: an epoch of one step's sequences as a warm-up, then STEPS."""
    from benchmarks.align_trl import Trl

    data = examples(align.batch_size)
    packing = {"packing": True, "max_length": align.micro_batch_tokens, "per_device_train_batch_size": 1}
    with tempfile.TemporaryDirectory() as folder:
        lm = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        lm.save_pretrained(folder)
        del lm
        loading = {"dtype": torch.bfloat16, "attn_implementation": attention(align).replace("_by_sequence", "")}
        trl = Trl(folder, data, **packing, bf16=ON_GPU, use_cpu=not ON_GPU, model_init_kwargs=loading)
    trl.trainer.train()
    begin = _now()
    for _ in range(STEPS):
        trl.trainer.train()
    return STEPS * sum(map(COLLATOR.length, data)), _now() - begin


def predicted_gb(config: Qwen2Config, align: Align) -> float:
    from presafe.align.memory import Ranks, predict
    from presafe.align.shape import shape_of

    return predict(shape_of(config, align.lora), align, "bfloat16", Ranks(1, 1)).device_bytes / 1e9


def _matrix_parameters(config: Qwen2Config) -> int:
    """Weights that multiply every token: all but the input embeddings."""
    with torch.device("meta"):
        lm = AutoModelForCausalLM.from_config(config)
    return int(lm.num_parameters()) - config.vocab_size * config.hidden_size


def _now() -> float:
    if ON_GPU:
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()

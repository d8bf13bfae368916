"""`python -m benchmarks.align_gpu CASE`, a task of `make gpu PART=train`: random 7B and 14B models on one GPU.

Prints tokens a second, MFU, and peak memory beside the preflight's prediction. Micro-batches hold 8192 packed tokens;
the data is align_data.py's. MFU counts 4 FLOPs a token and weight (forward, and the gradient of what goes in), in full
fine-tuning 6; neither what is recomputed nor attention, 1 % at these lengths.
"""

import argparse
import resource
import statistics
import time
from importlib.util import find_spec
from typing import Any

import psutil
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from benchmarks.align_data import LORA, examples
from benchmarks.align_ours import COLLATOR, Ours, process_group
from benchmarks.gpu_parts import figure, leave_out
from presafe.align.module.kernels import attention
from presafe.align.module.zero import sharded_loading, zero_config
from presafe.align.preflight.memory import Ranks, predict
from presafe.align.preflight.shape import shape_of
from presafe.config import Align

SHAPES = {
    # hidden size, MLP, layers, heads, key-value heads, vocabulary
    "7b": (3584, 18944, 28, 28, 4, 152_064),
    "4b": (3584, 18944, 14, 28, 4, 152_064),  # half of its layers
    "14b": (5120, 13824, 48, 40, 8, 152_064),
    "tiny": (64, 128, 2, 4, 2, 32_000),
}
CHECKPOINTED = {"gradient_checkpointing": True}
HALVED = {"gradient_checkpointing": False, "micro_batch_tokens": 4096}
"""What 80 GB hold of a 7B without checkpointing."""
FULL: dict[str, Any] = {**CHECKPOINTED, "lora": None, "zero_stage": 3, "offload": "optimizer"}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "7b-lora": ("7b", HALVED),
    "7b-lora-checkpointed": ("7b", CHECKPOINTED),
    "7b-lora-trl": ("7b", HALVED),
    "14b-lora-checkpointed": ("14b", CHECKPOINTED),
    "7b-full-offload": ("7b", FULL),
    "4b-full-offload": ("4b", FULL),
    "7b-full-offload-parameters": ("7b", {**FULL, "offload": "parameters"}),
}
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}
"""Dense bfloat16."""
BATCH, STEPS = 128, 3
ON_GPU = torch.cuda.is_available()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--dry-run", action="store_true", help="a tiny model, for a CPU too")
    arguments = parser.parse_args()
    named, changes = CASES[arguments.case]
    config = model_config("tiny" if arguments.dry_run else named)
    align = Align.model_validate(
        {"lora": LORA, "zero_stage": 1, "batch_size": 4 if arguments.dry_run else BATCH, **changes}
    )
    expected = expected_bytes(config, align)
    for where, there in room().items():
        if expected[where] > there:
            leave_out(
                f"the preflight says {expected[where] / 1e9:.1f} GB of {where}, of which {there / 1e9:.1f} are there"
            )
    theirs = arguments.case.endswith("trl")
    if theirs and find_spec("trl") is None:
        leave_out("trl is not installed")
    rates = (train_trl if theirs else train_ours)(config, align)
    name, rate = arguments.case.replace("-", "_"), statistics.median(rates)
    figure(f"{name}_tokens_per_second", rate, "tokens/s", spread=rates)
    gpu = torch.cuda.get_device_name() if ON_GPU else "none"
    flops = (6 if align.lora is None else 4) * _matrix_parameters(config)
    for peak in (peak for known, peak in PEAK_FLOPS.items() if known in gpu):
        figure(f"{name}_mfu", 100 * flops * rate / peak, "%", spread=[100 * flops * one / peak for one in rates])
    if ON_GPU:
        figure(f"{name}_GPU_memory_allocated_peak", torch.cuda.max_memory_allocated() / 1e9, "GB")
    for where, peak in peaks().items():
        memory = f"{name}_{where.replace(' ', '_')}"
        figure(f"{memory}_peak", peak / 1e9, "GB")
        if not theirs:
            ratio = peak / expected[where]
            figure(f"{memory}_peak_over_predicted", ratio, "ratio", target="<= 1", peer="the preflight")


def expected_bytes(config: Qwen2Config, align: Align) -> dict[str, float]:
    """What the preflight says."""
    found = predict(shape_of(config, align.lora), align, "bfloat16", Ranks(1, 1, on_gpu=ON_GPU))
    return {"host memory": found.host_bytes, "GPU memory": found.device_bytes}


def room() -> dict[str, float]:
    """Bytes that this process could take."""
    gpu = {"GPU memory": torch.cuda.get_device_properties(0).total_memory} if ON_GPU else {}
    return {"host memory": psutil.virtual_memory().available, **gpu}


def peaks() -> dict[str, float]:
    """Bytes that this process took at most; of the GPU's, what its allocator reserved."""
    gpu = {"GPU memory": torch.cuda.max_memory_reserved()} if ON_GPU else {}
    return {"host memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, **gpu}


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


def train_ours(config: Qwen2Config, align: Align) -> list[float]:
    """Tokens a second of each of STEPS steps, after a first one."""
    with process_group(backend="nccl" if ON_GPU else "gloo"):
        loading = sharded_loading(zero_config(align, "bfloat16"))  # from_config shards too, or builds where it is told
        lm = random_model(config, attention(align, "bfloat16"), "cpu" if loading else None)
        del loading
        ours = Ours(lm, examples(4 * align.batch_size), align, "bfloat16")
        ours.train(1)
        rates = []
        for _ in range(STEPS):
            begin = _now()
            (step,) = ours.train(1)
            rates.append(step.tokens / (_now() - begin))
        return rates


def train_trl(config: Qwen2Config, align: Align) -> list[float]:
    """Tokens a second of SFTTrainer over one step's sequences, STEPS times after a first one.

    In bfloat16, packed to a micro-batch; without FlashAttention, its rows are attended to across sequences.
    """
    from benchmarks.align_trl import Trl

    data = examples(align.batch_size)
    tokens = sum(map(COLLATOR.length, data))
    trl = Trl(
        random_model(config, "flash_attention_2" if ON_GPU and find_spec("flash_attn") else "sdpa"),
        data,
        packing=True,
        max_length=align.micro_batch_tokens,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=max(1, round(tokens / align.micro_batch_tokens)),
        bf16=ON_GPU,
        use_cpu=not ON_GPU,
        model_init_kwargs=None,
    )
    trl.trainer.train()
    rates = []
    for _ in range(STEPS):
        begin = _now()
        trl.trainer.train()
        rates.append(tokens / (_now() - begin))
    return rates


def random_model(config: Qwen2Config, implementation: str, device: str | None = None) -> Any:
    """In bfloat16, by default made where it is used."""
    with torch.device(device or ("cuda" if ON_GPU else "cpu")):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=implementation)


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

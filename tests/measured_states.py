"""What DeepSpeed really keeps, measured in a process of its own: its engine leaves global state behind."""

import gc
import os
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from presafe.align.module.zero import start_engine, zero_config
from presafe.config import Align

SHAPE = Qwen2Config(
    vocab_size=2000,
    hidden_size=128,
    intermediate_size=512,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    tie_word_embeddings=False,
)


def measure(cases: list[tuple[Align, str]]) -> list[tuple[int, int]]:
    """For each case after a step of two micro-batches on one rank: bytes of all tensors, and of a checkpoint."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    with tempfile.NamedTemporaryFile() as meeting_point:
        dist.init_process_group("gloo", init_method=f"file://{meeting_point.name}", rank=0, world_size=1)
        return [_measure(align, dtype) for align, dtype in cases]


def _measure(align: Align, dtype: str) -> tuple[int, int]:
    before = _tensor_bytes()
    model = Qwen2ForCausalLM._from_config(SHAPE, dtype=getattr(torch, dtype))
    if align.lora is not None:
        model = get_peft_model(model, LoraConfig(r=align.lora.r, target_modules=align.lora.target_modules))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    # Adapters stay float32 only where DeepSpeed does not cast: without bf16, or under ZeRO-3.
    cast = align.lora is None or align.zero_stage == 3
    engine = start_engine(model, zero_config(align, dtype if cast else "float32"), optimizer)
    ids = torch.zeros(1, 4, dtype=torch.long)
    for _ in range(2):
        engine.backward(engine(input_ids=ids, labels=ids, use_cache=False).loss, scale_wrt_gas=False)
    engine.step()
    held = _tensor_bytes() - before
    with tempfile.TemporaryDirectory() as folder:
        engine.save_checkpoint(folder, tag="zero", exclude_frozen_parameters=align.lora is not None)
        saved = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    engine.destroy()
    return held, saved


def _tensor_bytes() -> int:
    """Bytes of all live tensors' storages, each counted once."""
    gc.collect()
    tensors = [o for o in gc.get_objects() if type(o) in (torch.Tensor, torch.nn.Parameter)]
    tensors += [t.grad for t in tensors if t.is_leaf and t.grad is not None]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())

"""DeepSpeed in two processes: who holds which weights, what stops the training, and what offloading computes."""

import os
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM

from presafe.align.module.build import build_module, build_optimizer, head_spec
from presafe.align.module.collate import Collator
from presafe.align.module.zero import sharded_loading, start_engine, zero_config
from presafe.align.train.loss import loss_weights
from presafe.align.train.plan import batch_plan
from presafe.align.train.rows import ExampleRows
from presafe.align.train.step import NonFiniteLossError, train_step
from presafe.config import Align
from process_group import ProcessGroup
from support import random_qwen2, save_random_model, small_align, uneven_examples

COLLATOR, SEED = Collator(pad_id=0, block=(5, 6, 7, 8), shared=1), 3
BAD = 127
"""A token whose embedding is not a number."""


@pytest.fixture(scope="module")
def pair():
    group = ProcessGroup(2)
    yield group
    group.close()


def held(base: str, align: Align) -> tuple[int, int, int]:
    """After loading on this rank: numbers in weights of their full shape, in its shards, and in the whole model."""
    loading = sharded_loading(zero_config(align, "float32"))
    lm = build_module(base, "float32", align, head_spec(align, 6), SEED).lm.get_base_model()
    del loading
    base_weights = [p for name, p in lm.named_parameters() if "lora_" not in name]
    if align.zero_stage < 3:
        whole = sum(p.numel() for p in base_weights)
        return whole, 0, whole
    shards = sum(p.ds_tensor.numel() for p in base_weights)
    return sum(p.numel() for p in base_weights), shards, sum(p.ds_numel for p in base_weights)


def test_under_zero_3_a_rank_holds_its_share_and_no_full_weight(pair, tmp_path):
    base = save_random_model(str(tmp_path / "base"))
    size = random_qwen2(128).num_parameters()
    assert pair.run(held, base, small_align(zero_stage=2)) == [(size, 0, size)] * 2
    for full, shards, whole in pair.run(held, base, small_align(zero_stage=3)):
        assert whole == size
        assert full == 0
        assert size / 2 <= shards < size / 2 + 64, "up to one number of padding a weight"


def stopped(base: str, stage: int, bad_gradient: bool) -> tuple[str, bool]:
    """Message of the error on this rank, and whether the weights are as before."""
    align = small_align(zero_stage=stage, lora=None, batch_size=6, signal_batch_size=2)
    module = build_module(base, "float32", align, head_spec(align, 6), SEED)
    engine = start_engine(module, zero_config(align, "float32"), build_optimizer(module, align))
    if bad_gradient:
        module.head.linear.weight.register_hook(lambda gradient: gradient * torch.inf)
    before = [p.detach().clone() for p in module.parameters()]
    rows = ExampleRows.of(poisoned())
    plan = batch_plan(rows, align, SEED, COLLATOR)
    try:
        train_step(engine, rows, plan, 0, loss_weights(align, 0), COLLATOR)
    except NonFiniteLossError as error:
        same = [torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True)]
        return str(error), all(s for s, p in zip(same, before, strict=True) if p.isfinite().all())
    finally:
        engine.destroy()
    return "", False


def poisoned():
    """Demonstrations and pool; those that hold the bad token are named bad."""
    rows = []
    for k, example in enumerate(sorted(uneven_examples(), key=lambda e: not e.completion)):
        prompt = [token % BAD for token in example.prompt] + ([BAD] if k % 7 == 0 else [])
        completion = [5, *(token % BAD for token in example.completion)] if example.completion else []
        name = f"{'bad' if k % 7 == 0 else 'good'}-{k}"
        rows.append(replace(example, prompt_id=name, prompt=prompt, completion=completion))
    return rows


def poisoned_base(folder) -> str:
    base = save_random_model(str(folder / "base"))
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.get_input_embeddings().weight[BAD] = torch.nan
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().nan_to_num())
    model.save_pretrained(base)
    return base


def test_a_loss_that_is_not_finite_names_its_microbatches_prompts_before_the_update(pair, tmp_path):
    (message, untouched), (other, _) = pair.run(stopped, poisoned_base(tmp_path), 2, False)
    align, rows = small_align(batch_size=6, signal_batch_size=2), poisoned()
    batches = [b for rank in batch_plan(ExampleRows.of(rows), align, SEED, COLLATOR).microbatches(0, 2) for b in rank]
    blamed = sorted(rows[i].prompt_id for b in batches if any("bad" in rows[j].prompt_id for j in b) for i in b)
    assert blamed
    assert len(blamed) < sum(map(len, batches)), "others are not to blame"
    assert f"prompt ids {', '.join(blamed)}," in message
    assert "found a loss that is not finite at step 1 (" in message
    assert message == other
    assert untouched


@pytest.mark.parametrize("stage", [0, 2])
def test_a_gradient_that_is_not_finite_stops_too(pair, tmp_path, stage):
    (message, _), (other, _) = pair.run(stopped, save_random_model(str(tmp_path / "base")), stage, True)
    assert "found a gradient that is not finite at step 1 (" in message
    assert message == other


def trained(base: str, align: Align) -> list[tuple[float, float]]:
    config = zero_config(align, "float32")
    loading = sharded_loading(config)
    module = build_module(base, "float32", align, head_spec(align, 6), SEED)
    del loading
    engine = start_engine(module, config, build_optimizer(module, align))
    rows = ExampleRows.of(sorted(uneven_examples(), key=lambda example: not example.completion))
    plan = batch_plan(rows, align, SEED, COLLATOR)
    metrics = [train_step(engine, rows, plan, k, loss_weights(align, k), COLLATOR) for k in range(6)]
    engine.destroy()
    dist.barrier()
    return [(row.loss, row.grad_norm) for row in metrics]


class Watched(ExampleRows):
    """Keeps which rows were read."""

    seen: set[int]

    def __getitem__(self, index: int):
        self.seen.add(index)
        return super().__getitem__(index)


def reads(base: str) -> tuple[list[set[int]], list[set[int]]]:
    """What this rank read of the examples in each of four steps, and what its own micro-batches hold."""
    align = small_align(zero_stage=2, batch_size=6, signal_batch_size=2)
    rows = Watched.of(sorted(uneven_examples(), key=lambda example: not example.completion))
    module = build_module(base, "float32", align, head_spec(align, 6), SEED)
    engine = start_engine(module, zero_config(align, "float32"), build_optimizer(module, align))
    plan = batch_plan(rows, align, SEED, COLLATOR)
    read = []
    for step in range(4):
        rows.seen = set()
        train_step(engine, rows, plan, step, loss_weights(align, step), COLLATOR)
        read.append(rows.seen)
    engine.destroy()
    own = [{i for batch in plan.microbatches(step, 2)[dist.get_rank()] for i in batch} for step in range(4)]
    return read, own


def test_a_rank_reads_the_examples_of_its_own_micro_batches_alone(pair, tmp_path):
    (first, own), (second, others) = pair.run(reads, save_random_model(str(tmp_path / "base")))
    assert first == own
    assert second == others
    assert all(one and not one & other for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_weight_decay_and_betas_are_the_same_at_every_zero_stage(pair, tmp_path, stage, lora):
    """Stage 0 is torch's own AdamW; under ZeRO-3 a matrix lies in shards that have no rows."""
    base = save_random_model(str(tmp_path / "base"))
    settings = {"signal_batch_size": 2, "learning_rate": 0.01, "betas": (0.8, 0.95), "weight_decay": 2.0}
    settings |= {} if lora else {"lora": None}
    plain = pair.run(trained, base, small_align(zero_stage=0, **settings))[0]
    found = pair.run(trained, base, small_align(zero_stage=stage, **settings))[0]
    without = pair.run(trained, base, small_align(zero_stage=0, **settings | {"weight_decay": 0.0}))[0]
    assert off(found, plain) < 1e-4
    assert off(without, plain) > 1e-3


def off(found: list[tuple[float, float]], plain: list[tuple[float, float]]) -> float:
    """Largest relative difference of a loss or a gradient norm."""
    return max(abs(a - b) / b for row, other in zip(found, plain, strict=True) for a, b in zip(row, other, strict=True))


@pytest.mark.skipif("PRESAFE_OFFLOAD" not in os.environ, reason="DeepSpeed compiles CPUAdam first: PRESAFE_OFFLOAD=1")
@pytest.mark.parametrize(
    ("stage", "offload"), [(1, "optimizer"), (2, "optimizer"), (3, "optimizer"), (3, "parameters")]
)
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_offloading_changes_no_loss(pair, tmp_path, stage, offload, lora):
    base = save_random_model(str(tmp_path / "base"))
    settings = {"signal_batch_size": 2, "learning_rate": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1}
    settings |= {} if lora else {"lora": None}
    plain = pair.run(trained, base, small_align(zero_stage=2, **settings))[0]
    found = pair.run(trained, base, small_align(zero_stage=stage, offload=offload, **settings))[0]
    print(f"\nstage {stage}, {offload}, lora {lora}: {off(found, plain):.1e}")
    assert off(found, plain) < 1e-3
    assert plain[0][0] - plain[-1][0] > 0.01

"""Two DeepSpeed workers against one process of plain PyTorch: the same losses, step by step."""

import json
import sys
from pathlib import Path

import pytest
import ray.cloudpickle
import ray.train
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from presafe.align.build import build_module
from presafe.align.collate import Collator
from presafe.align.loss import LossWeights, step_counts
from presafe.align.model import HeadSpec
from presafe.align.plan import BatchPlan, Draw
from presafe.align.step import train_step
from presafe.align.zero import sharded_loading, start_engine, zero_config
from support import save_random_model, small_align, uneven_examples

COLLATOR, SPEC = Collator(0, (), 0), HeadSpec("linear", 1)
STEPS, WEIGHT, LEARNING_RATE, SEED = 10, 0.7, 0.3, 3
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def batch_plan(examples, align):
    draw = Draw(len(examples), align.batch_size)
    return BatchPlan(tuple(map(COLLATOR.length, examples)), (draw,), align.micro_batch_tokens, SEED)


def deepspeed_losses(loop_config: dict) -> None:
    """Train on every ZeRO stage in turn; rank 0 writes the losses and how many micro-batches each step had."""
    torch.set_num_threads(1)
    examples, losses = uneven_examples(), {}
    for stage in loop_config["stages"]:
        align = small_align(zero_stage=stage)
        config = zero_config(align, "float32")
        loading = sharded_loading(config)
        module = build_module(loop_config["base"], "float32", align, SPEC, SEED)
        del loading
        optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=LEARNING_RATE)
        engine = start_engine(module, config, optimizer)
        plan = batch_plan(examples, align)
        rows = [train_step(engine, examples, plan, step, LossWeights(WEIGHT), COLLATOR) for step in range(STEPS)]
        losses[stage] = [row.loss for row in rows]
        engine.destroy()
    if ray.train.get_context().get_world_rank() == 0:
        Path(loop_config["output"]).write_text(json.dumps(losses))


def plain_losses(base: str, learning_rate: float = LEARNING_RATE) -> list[float]:
    """The same training with SGD in plain PyTorch: one batch a step, no packing, no DeepSpeed, loss as on paper."""
    examples, align = uneven_examples(), small_align()
    module = build_module(base, "float32", align, SPEC, SEED)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=learning_rate)
    plan, losses = batch_plan(examples, align), []
    for step in range(STEPS):
        batch = [examples[i] for i in plan.sequences(step)]
        counts = step_counts(batch)
        lm, signal = torch.zeros(()), torch.zeros(())
        for example in batch:  # one sequence at a time, logits everywhere: nothing shared with the packed forward
            ids = torch.tensor([example.prompt + example.completion])
            output = module.lm(input_ids=ids, output_hidden_states=True, use_cache=False)
            start = len(example.prompt) - 1
            logits = output.logits[0, start : start + len(example.completion)]
            targets = torch.tensor(example.completion, dtype=torch.long)
            lm = lm + torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
            logit = module.head(output.hidden_states[-1][0, start])
            target = torch.tensor(example.refuse_probability)
            signal = signal + torch.nn.functional.binary_cross_entropy_with_logits(logit, target)
        loss = lm / counts.target_tokens + WEIGHT * signal / counts.sequences
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, align.max_grad_norm)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.usefixtures("local_ray")
def test_two_workers_under_zero_2_and_3_equal_one_process_of_plain_pytorch(tmp_path):
    base = save_random_model(str(tmp_path / "base"))
    trainer = TorchTrainer(
        deepspeed_losses,
        train_loop_config={"base": base, "stages": [2, 3], "output": str(tmp_path / "losses.json")},
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(name="parity", storage_path=str(tmp_path)),
    )
    trainer.fit()
    losses = json.loads((tmp_path / "losses.json").read_text())
    expected = plain_losses(base)
    untrained = plain_losses(base, learning_rate=0.0)
    moved = max(abs(a - b) for a, b in zip(expected, untrained, strict=True))
    assert moved > 0.04, "training must move the losses, or equality says nothing"
    for stage in ("2", "3"):
        assert losses[stage] == pytest.approx(expected, abs=1e-5)


def test_the_parity_data_is_uneven_and_its_microbatches_vary():
    examples = uneven_examples()
    plan = batch_plan(examples, small_align())
    rounds = {len(plan.microbatches(step, 2)[0]) for step in range(STEPS)}
    assert len(rounds) > 1
    lengths = {len(example.completion) for example in examples}
    assert 0 in lengths
    assert max(lengths) > 10 * min(lengths - {0})

"""A look at the validation prompts sees what the trained model says, and leaves the training as it was."""

import json
import sys
from pathlib import Path
from typing import Any

import deepspeed
import pytest
import ray.cloudpickle
import ray.train
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from transformers import set_seed

from presafe.align.module.build import build_module, build_optimizer
from presafe.align.module.collate import Collator
from presafe.align.module.model import HeadSpec
from presafe.align.module.zero import sharded_loading, start_engine, zero_config
from presafe.align.train.draw import Draw
from presafe.align.train.loss import LossWeights
from presafe.align.train.plan import BatchPlan, batch_plan
from presafe.align.train.probe import look
from presafe.align.train.rows import ExampleRows
from presafe.align.train.step import train_step
from presafe.config import Lora
from presafe.records import Example
from support import save_random_model, small_align, uneven_examples

DECISION, STEPS, BUDGET = 7, 4, 48
COLLATOR = Collator(0, (DECISION, 8, 9), 0)
SPECS = {"linear": HeadSpec("linear", DECISION), "readout": HeadSpec("readout", DECISION, anchored=True)}
ALIGN = small_align(
    zero_stage=3, steps=STEPS, learning_rate=0.003, lora=Lora(r=4, alpha=8, dropout=0.2), micro_batch_tokens=96
)
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def validation() -> list[Example]:
    """Eleven prompts of uneven length. A tied, untrained model repeats the last token: every other prompt ends so."""
    prompts = [example.prompt for example in uneven_examples(11, seed=1)]
    return [
        Example(f"v{k}", [*prompt, DECISION] if k % 2 else prompt, [], "refuse" if k % 2 else "think", 0.5)
        for k, prompt in enumerate(prompts)
    ]


def trained(base: str, spec: HeadSpec, *, probed: bool) -> tuple[list[list[float]], Any]:
    """Losses and gradient norms of a training that looks after every step, or never; and its engine."""
    examples = ExampleRows.of(uneven_examples())
    config = zero_config(ALIGN, "float32")
    loading = sharded_loading(config)
    module = build_module(base, "float32", ALIGN, spec, 3)
    del loading
    engine = start_engine(module, config, build_optimizer(module, ALIGN))
    set_seed(5 + ray.train.get_context().get_world_rank())
    lengths = batch_plan(examples, ALIGN, 3, COLLATOR).lengths
    plan = BatchPlan(lengths, (Draw(len(examples), ALIGN.batch_size),), ALIGN.micro_batch_tokens, 3)
    rows = []
    for step in range(STEPS):
        metrics = train_step(engine, examples, plan, step, LossWeights(1.0, 0.5), COLLATOR)
        rows.append([metrics.loss, metrics.grad_norm])
        if probed:
            look(engine, validation(), BUDGET, COLLATOR)
    return rows, engine


def look_while_training(loop_config: dict) -> None:
    """Both trainings for both heads; rank 0 writes their losses, the last look, and the trained weights."""
    torch.set_num_threads(1)
    found = {}
    for name, spec in SPECS.items():
        never, engine = trained(loop_config["base"], spec, probed=False)
        engine.destroy()
        always, engine = trained(loop_config["base"], spec, probed=True)
        seen = [[one.prompt_id, one.probability, one.refuses] for one in look(engine, validation(), BUDGET, COLLATOR)]
        found[name] = {"never": never, "always": always, "seen": seen}
        weights = {n: p for n, p in engine.module.named_parameters() if p.requires_grad}
        with deepspeed.zero.GatheredParameters(list(weights.values())):
            if ray.train.get_context().get_world_rank() == 0:
                torch.save({n: p.detach().clone() for n, p in weights.items()}, f"{loop_config['output']}/{name}.pt")
        engine.destroy()
    if ray.train.get_context().get_world_rank() == 0:
        Path(loop_config["output"], "found.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def training(tmp_path_factory, local_ray) -> Path:  # noqa: ARG001
    root = tmp_path_factory.mktemp("probe")
    trainer = TorchTrainer(
        look_while_training,
        train_loop_config={"base": save_random_model(str(root / "base")), "output": str(root)},
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(name="probe", storage_path=str(root)),
    )
    trainer.fit()
    return root


@pytest.mark.parametrize("head", SPECS)
def test_looking_after_every_step_gives_the_same_losses_as_never_looking(training, head):
    found = json.loads((training / "found.json").read_text())[head]
    assert found["always"] == found["never"], "bit by bit, with dropout"
    assert len({loss for loss, _ in found["never"]}) == STEPS


@pytest.mark.parametrize("head", SPECS)
def test_a_look_under_zero_3_sees_what_plain_forward_passes_of_the_trained_weights_say(training, head):
    module = build_module(str(training / "base"), "float32", ALIGN, SPECS[head], 3)
    weights = torch.load(training / f"{head}.pt")
    assert module.load_state_dict(weights, strict=False).unexpected_keys == []
    module.eval()
    expected = []
    for example in validation():  # one prompt at a time, unpacked, without the head's own code path
        with torch.no_grad():
            output = module.lm(input_ids=torch.tensor([example.prompt]), output_hidden_states=True)
            logits = output.logits[0, -1]
            linear = module.head(output.hidden_states[-1][0, -1]).sigmoid() if head == "linear" else None
        probability = logits.softmax(-1)[DECISION] if linear is None else linear
        expected.append((example.prompt_id, probability.item(), int(logits.argmax()) == DECISION))
    seen = json.loads((training / "found.json").read_text())[head]["seen"]
    assert [(name, refuses) for name, _, refuses in seen] == [(name, refuses) for name, _, refuses in expected]
    assert [p for _, p, _ in seen] == pytest.approx([p for _, p, _ in expected], abs=1e-5)
    assert len({refuses for _, _, refuses in expected}) == 2, "some refuse and some do not, or equality says little"
    assert max(p for _, p, _ in expected) - min(p for _, p, _ in expected) > 1e-3

"""DeepSpeed in real processes against plain PyTorch: the same losses and gradient norms, step by step."""

from dataclasses import replace

import pytest
import torch

from plain_training import Plain, Row
from presafe.align.module.build import build_module, head_spec, parameter_groups
from presafe.align.module.collate import Collator
from presafe.align.module.zero import sharded_loading, start_engine, zero_config
from presafe.align.train.loss import loss_weights
from presafe.align.train.plan import BatchPlan, batch_plan
from presafe.align.train.rows import ExampleRows
from presafe.align.train.step import StepMetrics, train_step
from presafe.config import Align, LinearHead, ReadoutHead
from process_group import ProcessGroup
from support import save_random_model, small_align, uneven_examples

COLLATOR = Collator(pad_id=0, block=(5, 6, 7, 8), shared=1)
DECISION, SEED, STEPS = 6, 3, 8
COMMON = {
    "batch_size": 3,
    "signal_batch_size": 2,
    "micro_batch_tokens": 80,
    "weight": 0.7,
    "max_grad_norm": 0.6,
    "learning_rate": 0.5,
}
HEADS = {
    "linear": {},
    "readout": {"head": ReadoutHead(kind="readout", kl_weight=0.5)},
    "mean": {"objective": "safekey", "learning_rate": 1.0},
    "own rate": {"head": LinearHead(learning_rate=0.8)},
    "layer 1": {"head": LinearHead(layer=1), "learning_rate": 2.0},
    "checkpointing": {"gradient_checkpointing": True},
    "readout, checkpointing": {"head": ReadoutHead(kind="readout"), "gradient_checkpointing": True},
}


def case(head: str, stage: int, *, lora: bool = True) -> Align:
    full = {} if lora else {"lora": None, "learning_rate": 0.3}
    return small_align(zero_stage=stage, **{**COMMON, **HEADS[head], **full})


def examples():
    """Demonstrations, some without a signal, then the pool; a completion begins as the think format would have it."""
    found = []
    for k, example in enumerate(uneven_examples()):
        start = [*COLLATOR.block] if example.path == "refuse" else [COLLATOR.block[0], 9]
        completion = start + example.completion if example.completion else []
        signal = None if completion and k % 4 == 1 else example.refuse_probability
        found.append(replace(example, completion=completion, refuse_probability=signal))
    return sorted(found, key=lambda example: not example.completion)


class Uneven(BatchPlan):
    """Some steps have one sequence, a demonstration or one of the pool, and more ranks than that."""

    def sequences(self, step: int) -> list[int]:
        chosen = super().sequences(step)
        return {0: chosen[:1], 2: chosen[-1:]}.get(step % 4, chosen)


def plan_of(align: Align) -> BatchPlan:
    return Uneven(**vars(batch_plan(ExampleRows.of(examples()), align, SEED, COLLATOR)))


def trained(base: str, align: Align, dtype: str) -> tuple[list[StepMetrics], dict[str, str]]:
    """On each rank: metrics of all steps with SGD, and the dtypes of what is trained and what is frozen."""
    config = zero_config(align, dtype)
    loading = sharded_loading(config)
    module = build_module(base, dtype, align, head_spec(align, DECISION), SEED)
    del loading
    groups = parameter_groups(module, align)
    engine = start_engine(module, config, torch.optim.SGD(groups, lr=align.learning_rate))
    rows, plan = ExampleRows.of(examples()), plan_of(align)
    metrics = [train_step(engine, rows, plan, k, loss_weights(align, k), COLLATOR) for k in range(STEPS)]
    dtypes = {kind: str(p.dtype) for kind, p in kinds(engine.module)}
    engine.destroy()
    return metrics, dtypes


def kinds(module):
    for name, parameter in module.named_parameters():
        yield "head" if name.startswith("head") else "adapter" if "lora_" in name else "base", parameter


class Reference:
    """Plain PyTorch's rows of a case, computed once."""

    def __init__(self, base: str) -> None:
        self.base, self.known = base, {}

    def rows(self, align: Align, rate: float = 1.0) -> list[Row]:
        align = align.model_copy(update={"zero_stage": 0, "gradient_checkpointing": False})
        key = (align.model_dump_json(), rate)
        if key not in self.known:
            self.known[key] = self._train(align, rate)
        return self.known[key]

    def _train(self, align: Align, rate: float) -> list[Row]:
        kl = align.head.kl_weight if align.head.kind == "readout" else 0.0
        plain = Plain(self.base, align, head_spec(align, DECISION), SEED, COLLATOR, lambda step: (align.weight, kl))  # noqa: ARG005
        own = getattr(align.head, "learning_rate", None) or align.learning_rate

        def sgd(module):
            model = [p for p in module.lm.parameters() if p.requires_grad]
            head = [] if module.head is None else [{"params": list(module.head.parameters()), "lr": own}]
            return torch.optim.SGD([{"params": model}, *head], lr=align.learning_rate)

        rows, plan = examples(), plan_of(align)
        steps = [[rows[i] for i in plan.sequences(step)] for step in range(STEPS)]
        return plain.train(steps, sgd, lambda step: rate)  # noqa: ARG005


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Reference:
    torch.set_num_threads(1)
    return Reference(save_random_model(str(tmp_path_factory.mktemp("parity") / "base")))


@pytest.fixture(scope="module")
def groups():
    """Process groups by world size, started at first use."""
    started: dict[int, ProcessGroup] = {}

    def group(world_size: int) -> ProcessGroup:
        if world_size not in started:
            started[world_size] = ProcessGroup(world_size)
        return started[world_size]

    yield group
    for each in started.values():
        each.close()


def deviations(found: list[StepMetrics], expected: list[Row]) -> tuple[float, float, float]:
    """Greatest difference of a loss or a part of it; of the gradient norms, relative: the greatest, and of them all."""
    parts = ("loss", "lm_loss", "align_loss", "anchor_loss")
    loss = max(abs(getattr(a, p) - getattr(b, p)) for a, b in zip(found, expected, strict=True) for p in parts)
    norm = max(abs(a.grad_norm / b.grad_norm - 1) for a, b in zip(found, expected, strict=True))
    ours, theirs = (torch.tensor([row.grad_norm for row in rows]) for rows in (found, expected))
    return loss, norm, ((ours - theirs).norm() / theirs.norm()).item()


def compare(groups, reference: Reference, align: Align, world_size: int = 2, dtype: str = "float32"):
    """Deviations of a case on `world_size` ranks from plain PyTorch in float32, and its dtypes."""
    expected = reference.rows(align)
    still = reference.rows(align, rate=0.0)
    moved = max(abs(a.loss - b.loss) for a, b in zip(expected, still, strict=True))
    assert moved > 0.02, "training must move the losses, or equality says nothing"
    ranks = groups(world_size).run(trained, reference.base, align, dtype)
    assert all(rank == ranks[0] for rank in ranks), "every rank reports the whole step"
    metrics, dtypes = ranks[0]
    loss, norm, norms = deviations(metrics, expected)
    where = f"{dtype} world {world_size} stage {align.zero_stage}"
    print(f"\n{where}: loss {loss:.1e}, norm {norm:.1e}, all norms {norms:.1e}; {dtypes}")
    return loss, norm, norms, dtypes


STAGES = (0, 1, 2, 3)
EVERY_STAGE = [("linear", stage, lora) for stage in STAGES for lora in (True, False)]
OTHER_HEADS = [("readout", stage, True) for stage in STAGES]
OTHER_HEADS += [(head, 3, True) for head in HEADS if head not in ("linear", "readout")]


@pytest.mark.parametrize(("head", "stage", "lora"), EVERY_STAGE + OTHER_HEADS)
def test_two_ranks_equal_plain_pytorch_in_float32(groups, reference, head, stage, lora):
    loss, norm, *_ = compare(groups, reference, case(head, stage, lora=lora))
    assert loss < 1e-5
    assert norm < 1e-4


@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize(("head", "stage", "lora"), [("linear", 2, False), ("linear", 3, True), ("readout", 3, True)])
def test_other_world_sizes_give_the_same_trajectory(groups, reference, head, stage, lora, world_size):
    loss, norm, *_ = compare(groups, reference, case(head, stage, lora=lora), world_size)
    assert loss < 1e-5
    assert norm < 1e-4


BF16 = [(stage, lora) for stage in STAGES for lora in (True, False) if stage or lora]


@pytest.mark.parametrize(("stage", "lora"), BF16)
def test_bfloat16_stays_close_to_float32_and_trains_adapters_and_head_in_float32(groups, reference, stage, lora):
    loss, _, norms, dtypes = compare(groups, reference, case("linear", stage, lora=lora), dtype="bfloat16")
    assert loss < 1e-2
    assert norms < 1e-2  # a single step's may be further off: plain PyTorch's is, too, in bfloat16
    if lora:
        assert dtypes == {"adapter": "torch.float32", "head": "torch.float32", "base": "torch.bfloat16"}


def test_the_data_has_clipped_steps_empty_microbatches_and_a_pool(reference):
    align = case("linear", 0)
    norms = [row.grad_norm for row in reference.rows(align)]
    assert min(norms) < align.max_grad_norm < max(norms)
    plan, rows = plan_of(align), examples()
    for world_size in (2, 3):
        empty = [sum(not b for rank in plan.microbatches(k, world_size) for b in rank) for k in range(STEPS)]
        rounds = {len(plan.microbatches(k, world_size)[0]) for k in range(STEPS)}
        assert min(empty) == 0 < max(empty)
        assert len(rounds) > 1 or world_size > 2
    pool = [sum(not rows[i].completion for i in plan.sequences(k)) for k in range(STEPS)]
    assert pool == [0, 2, 1, 2] * 2
    signals = [sum(rows[i].refuse_probability is None for i in plan.sequences(k)) for k in range(STEPS)]
    assert min(signals) == 0 < max(signals)
    lengths = {len(row.completion) for row in rows if row.completion}
    assert max(lengths) > 5 * min(lengths)

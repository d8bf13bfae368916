"""What the settings of `align` become: the head, parameter groups, DeepSpeed's configuration, or one sentence."""

import re

import pytest
import torch
from pydantic import ValidationError

from presafe.align.module.build import build_module, build_optimizer, head_spec, parameter_groups
from presafe.align.module.model import HeadSpec
from presafe.align.module.zero import zero_config
from presafe.align.train.loss import loss_weights
from presafe.config import Align, LinearHead, ReadoutHead, Schedule
from support import save_random_model, small_align

READOUT = {"kind": "readout"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, HeadSpec("linear", 6)),
        ({"objective": "signals", "head": {"layer": 3}}, HeadSpec("linear", 6, layer=3)),
        ({"objective": "safekey", "head": {"layer": 2}}, HeadSpec("mean", 6, layer=2)),
        ({"head": READOUT}, HeadSpec("readout", 6)),
        ({"head": READOUT, "signal_batch_size": 4}, HeadSpec("readout", 6, anchored=True)),
        ({"head": {**READOUT, "kl_weight": 0}, "signal_batch_size": 4}, HeadSpec("readout", 6)),
        ({"objective": "sft"}, HeadSpec("none", 6)),
        ({"objective": "benign", "head": READOUT}, HeadSpec("none", 6)),
        ({"objective": "safepath"}, HeadSpec("none", 6)),
    ],
)
def test_objective_and_head_say_where_p_j_comes_from(settings, expected):
    assert head_spec(Align.model_validate(settings), 6) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"offload": "optimizer", "zero_stage": 0}, "offload optimizer needs a higher align.zero_stage"),
        ({"offload": "parameters", "zero_stage": 2}, "offload parameters needs a higher align.zero_stage"),
        ({"head": READOUT, "lora": None}, "set lora or kl_weight 0"),
        ({"head": READOUT, "objective": "safekey"}, "safekey trains a linear head"),
        ({"head": READOUT, "merge_gate": True}, "merge_gate writes a linear head"),
        ({"head": {"layer": 3}, "merge_gate": True}, "set head.layer to -1"),
        ({"labels": "random", "objective": "sft"}, "random has no meaning under objective sft"),
        ({"labels": "permuted", "objective": "benign"}, "permuted has no meaning under objective benign"),
        ({"head": {"kind": "pooled"}}, "kind"),
        ({"head": {"kl_weight": 1}}, "kl_weight"),
        ({"weight_schedule": {"warmup": 1.0}}, "less than 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ValidationError, match=re.escape(message)):
        Align.model_validate(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"offload": "optimizer", "zero_stage": 1},
        {"offload": "parameters", "zero_stage": 3},
        {"head": {**READOUT, "kl_weight": 0}, "lora": None},
        {"labels": "random", "objective": "safekey"},
    ],
)
def test_settings_one_step_from_those_are_accepted(settings):
    assert Align.model_validate(settings)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return save_random_model(str(tmp_path_factory.mktemp("settings") / "base"))


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_the_head_is_a_group_apart_where_it_has_a_rate_of_its_own(base, lora):
    for head in (LinearHead(), LinearHead(learning_rate=0.5), ReadoutHead(kind="readout", kl_weight=0)):
        align = small_align(head=head, **({} if lora else {"lora": None}))
        module = build_module(base, "float32", align, head_spec(align, 6), 0)
        groups = parameter_groups(module, align)
        trained = sorted(id(p) for p in module.parameters() if p.requires_grad)
        assert sorted(id(p) for group in groups for p in group["params"]) == trained
        own = isinstance(head, LinearHead) and head.learning_rate is not None
        assert [group.get("lr") for group in groups] == ([None, 0.5] if own else [None])
        if own:
            assert groups[1]["params"] == list(module.head.parameters())
        names = {name for name, p in module.named_parameters() if p.requires_grad and name.startswith("lm.")}
        assert all("lora_" in name for name in names) == lora


@pytest.mark.parametrize("head", [LinearHead(), LinearHead(learning_rate=0.02)], ids=["one rate", "own rate"])
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_the_optimizer_takes_the_steps_of_plain_adamw_on_matrices_and_the_rest(base, lora, head):
    """Against torch.optim.AdamW on parameters chosen by their names."""
    settings = {"betas": (0.8, 0.95), "weight_decay": 0.1, "learning_rate": 0.01, "head": head}
    align = small_align(**settings, **({} if lora else {"lora": None}))
    ours, theirs = (build_module(base, "float32", align, head_spec(align, 6), 0) for _ in range(2))
    named = [(name, p) for name, p in theirs.named_parameters() if p.requires_grad]
    plain = [name for name, _ in named if name.endswith("bias") or "norm" in name]
    assert plain
    assert lora == (plain == ["head.linear.bias"])
    groups = [
        {
            "params": [p],
            "weight_decay": 0.0 if name in plain else 0.1,
            "lr": 0.02 if name.startswith("head") and head.learning_rate else 0.01,
        }
        for name, p in named
    ]
    optimizers = build_optimizer(ours, align), torch.optim.AdamW(groups, betas=(0.8, 0.95))
    for step in range(3):
        for module, optimizer in zip((ours, theirs), optimizers, strict=True):
            draw = torch.Generator().manual_seed(step)
            for parameter in module.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.randn(parameter.shape, generator=draw)
            optimizer.step()
    for (name, expected), found in zip(named, (p for p in ours.parameters() if p.requires_grad), strict=True):
        assert torch.equal(found, expected), name


def test_without_weight_decay_the_optimizer_is_the_one_it_was(base):
    align = small_align()
    optimizer = build_optimizer(build_module(base, "float32", align, head_spec(align, 6), 0), align)
    (group,) = optimizer.param_groups
    assert (group["betas"], group["weight_decay"], group["eps"]) == ((0.9, 0.999), 0.0, 1e-8)


def test_the_seed_decides_adapters_and_head(base):
    align = small_align()
    a, b, other = (build_module(base, "float32", align, head_spec(align, 6), seed) for seed in (1, 1, 2))
    same = [(x == y).all().item() for x, y in zip(a.parameters(), b.parameters(), strict=True)]
    assert all(same)
    assert (a.head.linear.weight != other.head.linear.weight).any()


def test_weights_of_the_losses_follow_their_schedule():
    align = Align(
        weight=0.5,
        steps=10,
        weight_schedule=Schedule(shape="linear", start=0.5),
        head=ReadoutHead(kind="readout", kl_weight=2),
    )
    assert [loss_weights(align, step).align for step in (0, 4, 5, 6)] == pytest.approx([0, 0, 0.5, 0.4])
    assert loss_weights(align, 0).anchor == 2
    assert loss_weights(Align(), 0).anchor == 0


@pytest.mark.parametrize(
    ("stage", "lora", "dtype", "bf16"),
    [
        (2, True, "bfloat16", False),
        (3, True, "bfloat16", True),
        (2, False, "bfloat16", True),
        (3, True, "float32", False),
    ],
)
def test_deepspeeds_bf16_mode_is_off_where_it_would_cast_adapters(stage, lora, dtype, bf16):
    align = small_align(zero_stage=stage, **({} if lora else {"lora": None}))
    assert zero_config(align, dtype)["bf16"]["enabled"] == bf16


def test_offload_names_what_is_kept_in_host_memory():
    kept = lambda **settings: set(zero_config(small_align(**settings), "float32")["zero_optimization"])  # noqa: E731
    offloads = {"offload_optimizer", "offload_param"}
    assert not kept(zero_stage=3) & offloads
    assert kept(zero_stage=2, offload="optimizer") & offloads == {"offload_optimizer"}
    assert kept(zero_stage=3, offload="parameters") & offloads == offloads

"""The memory model against DeepSpeed: its own estimators, and what it really keeps and saves."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs
from measured_states import SHAPE, measure

from presafe.align.preflight.fit import legal, nearest, neighbours, refuse_misfit
from presafe.align.preflight.memory import Ranks, model_states, predict
from presafe.align.preflight.shape import shape_of
from presafe.cluster.capacity import Capacity
from presafe.config import Align, load_config
from presafe.errors import UserError
from published_shapes import SHAPES

LORA_7B = shape_of(SHAPES["r1-qwen-7b"][0], Align().lora)
FULL_7B = shape_of(SHAPES["r1-qwen-7b"][0], None)


def align(**settings: object) -> Align:
    return Align.model_validate(settings)


@pytest.mark.parametrize("world", [2, 8])
def test_states_of_full_fine_tuning_agree_with_deepspeeds_estimators(world):
    """ZeRO-2's equal its estimate at the update; ZeRO-3's estimate lies between ours in backward pass and update."""
    total = FULL_7B.parameters
    two = model_states(FULL_7B, align(lora=None, zero_stage=2), 2, world)
    _, expected = estimate_zero2_model_states_mem_needs(total, world, 1, cpu_offload=False)
    gradients = 2 * total / world + 4 * total / world
    assert two.weights + gradients + two.optimizer == pytest.approx(expected, rel=1e-6)

    three = model_states(FULL_7B, align(lora=None, zero_stage=3), 2, world)
    _, expected, gathered = estimate_zero3_model_states_mem_needs(
        total, FULL_7B.largest_module, world, 1, cpu_offload=False, cpu_offload_params=False
    )
    backward = three.weights + three.gradients + three.optimizer
    assert backward <= expected - gathered <= backward + three.update


@pytest.mark.parametrize(("stage", "offload"), [(2, "optimizer"), (3, "optimizer"), (3, "parameters")])
def test_offloaded_states_are_at_least_deepspeeds_estimate_and_not_far_above(stage, offload):
    settings = align(lora=None, zero_stage=stage, offload=offload)
    prediction = predict(FULL_7B, settings, "bfloat16", Ranks(8, 8))
    if stage == 2:
        # On one rank: on more, it counts float32 weights on each while loading, a phase of its own here.
        expected, _ = estimate_zero2_model_states_mem_needs(FULL_7B.parameters, 1, 1, cpu_offload=True)
    else:
        expected, _, _ = estimate_zero3_model_states_mem_needs(
            FULL_7B.parameters, FULL_7B.largest_module, 8, 1, True, offload == "parameters"
        )
    assert expected <= prediction.host["offloaded"] <= 1.3 * expected


def test_states_and_checkpoints_are_what_deepspeed_keeps_and_saves():
    """Real engines on one rank, after a step."""
    cases = [(align(zero_stage=stage, lora={"r": 16}), "bfloat16") for stage in (2, 3)]
    cases.append((align(zero_stage=3, lora=None), "bfloat16"))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(measure, cases).result(timeout=240)
    for (settings, dtype), (held, saved) in zip(cases, found, strict=True):
        shape = shape_of(SHAPE, settings.lora)
        states = model_states(shape, settings, 2, 1)
        expected = states.weights + states.optimizer
        if settings.zero_stage == 3:  # the gradients' buffer and a bucket, of the model's dtype, stay
            expected += states.gradients + 2 * shape.trainable(settings.lora)
        assert held == pytest.approx(expected, rel=0.01), settings
        assert saved == pytest.approx(predict(shape, settings, dtype, Ranks(1, 1)).checkpoint, rel=0.1), settings


@pytest.mark.parametrize("shape", [LORA_7B, FULL_7B], ids=["lora", "full"])
def test_more_ranks_stages_and_offload_never_need_more(shape):
    def on_gpu(ranks: int = 8, **settings: object) -> int:
        lora = {} if shape is LORA_7B else {"lora": None}
        return predict(shape, align(**lora, **settings), "bfloat16", Ranks(ranks, 8)).device_bytes

    assert on_gpu(8, zero_stage=3) < on_gpu(4, zero_stage=3) < on_gpu(2, zero_stage=3)
    assert on_gpu(zero_stage=3) < on_gpu(zero_stage=2) < on_gpu(zero_stage=1)
    needs = [on_gpu(zero_stage=3, offload=offload) for offload in ("none", "optimizer", "parameters")]
    assert needs == sorted(needs, reverse=True)
    assert on_gpu(micro_batch_tokens=2048) < on_gpu(micro_batch_tokens=8192) < on_gpu(gradient_checkpointing=False)


def test_what_does_not_fit_is_refused_with_the_nearest_settings_that_do():
    settings = align(zero_stage=1, lora=None, workers={"num_workers": 8, "num_gpus": 1})
    node = ((8, 1e12),)
    refuse_misfit(FULL_7B, settings, "bfloat16", Capacity(80e9, node))
    with pytest.raises(UserError, match=r"on each GPU \(.*\); needed at most 45\.0 GB.*; set align\.zero_stage=2$"):
        refuse_misfit(FULL_7B, settings, "bfloat16", Capacity(45e9, node))
    with pytest.raises(UserError, match=r"; set align\.zero_stage=3 align\.offload=optimizer$"):
        refuse_misfit(FULL_7B, settings, "bfloat16", Capacity(24e9, node))


def test_the_order_of_proposals_is_checkpointing_stage_offload_tokens_ranks():
    unlike = align(zero_stage=0, gradient_checkpointing=False, micro_batch_tokens=2048)
    seen = [
        (c.workers.num_workers, c.micro_batch_tokens, c.offload, c.zero_stage, c.gradient_checkpointing)
        for c in neighbours(unlike)
    ]
    assert seen[:3] == [(1, 2048, "none", 0, False), (1, 2048, "none", 0, True), (1, 2048, "none", 1, False)]
    assert all(legal(stage, offload) for _, _, offload, stage, _ in seen)
    assert list(dict.fromkeys((tokens, ranks) for ranks, tokens, *_ in seen))[:3] == [
        (2048, 1),
        (1024, 1),
        (2048, 2),
    ]


def test_what_no_setting_fits_is_said_plainly():
    assert nearest(FULL_7B, align(lora=None), "bfloat16", Capacity(1e9, ())) == (
        "take a smaller model, or GPUs with more memory"
    )


def test_an_elastic_group_must_fit_with_its_fewest_ranks():
    """Full fine-tuning of 7B fits on 8 GPUs of 48 GB and not on 2: [2, 8] is refused, since it may go on with 2."""
    group = {"num_gpus": 1, "num_workers": [2, 8]}
    capacity = Capacity(48e9, ((8, 1e12),))
    refuse_misfit(FULL_7B, align(lora=None, workers=group | {"num_workers": 8}), "bfloat16", capacity)
    with pytest.raises(UserError, match="GB on each GPU"):
        refuse_misfit(FULL_7B, align(lora=None, workers=group), "bfloat16", capacity)


def test_on_cpus_the_ranks_must_fit_into_the_nodes_memory():
    settings = align(workers={"num_workers": 4}, zero_stage=2)
    need = predict(LORA_7B, settings, "bfloat16", Ranks(4, 4, on_gpu=False)).host_bytes
    refuse_misfit(LORA_7B, settings, "bfloat16", Capacity(None, ((4, 1.01 * need),)))
    with pytest.raises(UserError, match=r"of a node's memory .* set align\.zero_stage=3"):
        refuse_misfit(LORA_7B, settings, "bfloat16", Capacity(None, ((4, 0.8 * need),)))


def test_the_demo_needs_little_more_than_its_processes():
    demo = load_config("configs/demo.yaml", []).align
    tiny = shape_of(SHAPE, demo.lora)
    assert predict(tiny, demo, "float32", Ranks(2, 2, on_gpu=False)).host_bytes < 2.5e9

"""The check of memory in front of a generation: what it predicts, what it refuses, and what it says to change."""

import re

import pytest

from presafe.cluster.capacity import Capacity
from presafe.config import PagedSettings, TransformersSettings, VllmSettings
from presafe.engines.fit import ON_A_GPU, Footprint, footprint, refuse_misfit
from presafe.errors import UserError
from support import save_random_model

QWEN3_14B = Footprint(weights=29.5e9, token=2 * 40 * 8 * 128 * 2)
"""40 layers, 8 key heads of 128, in bfloat16."""
H100 = Capacity(80e9, ())
LONG = 16_384


def refused(engine, new_tokens=LONG, capacity=H100, model=QWEN3_14B, actors=1):
    try:
        refuse_misfit("evaluate.engine", engine, model, new_tokens, capacity, actors)
    except UserError as error:
        return str(error)
    return None


def test_a_footprint_is_that_of_the_weights_and_of_a_real_cache(tmp_path):
    folder = save_random_model(str(tmp_path / "base"))
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    found = footprint(folder, "float32")
    assert found.weights == sum(p.numel() * 4 for p in model.parameters())
    cache = model(model.dummy_inputs["input_ids"][:1, :3], use_cache=True).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert held == 3 * found.token
    assert footprint(folder, "bfloat16").token == found.token / 2


def test_a_batch_of_long_thoughts_of_14b_is_refused_with_the_batch_that_fits_and_the_engine_that_does():
    engine = TransformersSettings(batch_size=32, max_prompt_tokens=4096)
    told = refused(engine)
    assert "29.5 GB for weights and 107.4 GB for the cache of 32 sequences of 20480 tokens" in told
    assert "kind=paged" in told
    fitting = int(re.search(r"batch_size=(\d+)", told)[1])
    assert refused(TransformersSettings(batch_size=fitting, max_prompt_tokens=4096)) is None
    assert refused(TransformersSettings(batch_size=fitting + 1, max_prompt_tokens=4096)) is not None
    assert refused(PagedSettings()) is None


def test_a_paged_cache_that_is_too_large_is_told_what_fits():
    told = refused(PagedSettings(kv_cache_tokens=1_000_000))
    fitting = int(re.search(r"kv_cache_tokens=(\d+)", told)[1])
    assert refused(PagedSettings(kv_cache_tokens=fitting)) is None
    assert refused(PagedSettings(kv_cache_tokens=fitting + 1000)) is not None


@pytest.mark.parametrize("engine", [TransformersSettings(batch_size=1), PagedSettings()])
def test_where_one_conversation_does_not_fit_a_shorter_one_is_named(engine):
    a_bit_more = Capacity(QWEN3_14B.weights + ON_A_GPU + 9000 * QWEN3_14B.token, ())
    told = refused(engine, capacity=a_bit_more)
    shorter = int(re.search(r"max_new_tokens to (\d+)", told)[1])
    assert refused(engine, new_tokens=shorter, capacity=a_bit_more) is None
    assert "larger" not in told
    assert "more memory" in refused(engine, capacity=Capacity(24e9, ()))


def test_vllm_splits_weights_and_cache_over_its_gpus():
    small = Capacity(24e9, ())
    assert "tensor_parallel_size" in refused(VllmSettings(kind="vllm"), capacity=small)
    assert refused(VllmSettings(kind="vllm", tensor_parallel_size=2), capacity=small) is None


def test_actors_of_one_node_share_its_memory_and_nothing_is_refused_where_nothing_is_known():
    node = Capacity(None, ((4, 80e9),))
    engine = PagedSettings()
    assert refused(engine, capacity=node, actors=1) is None
    assert "of a node's memory" in refused(engine, capacity=node, actors=4)
    assert refused(engine, capacity=Capacity(None, ()), actors=4) is None

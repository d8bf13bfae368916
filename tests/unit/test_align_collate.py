"""Packing: where each sequence's targets, decision and anchors lie in the row."""

import pytest
import torch

from presafe.align.module.collate import Collator
from presafe.records import Example
from presafe.thinking import think_format
from tiny_tokenizer import QWEN3, R1, tiny_tokenizer


@pytest.fixture(scope="module", params=[QWEN3, R1], ids=["qwen3", "r1"])
def think(request):
    return think_format(tiny_tokenizer(request.param))


@pytest.fixture(scope="module")
def packed(think):
    """Examples of both paths and two of the pool, and their row."""
    ask = lambda text: think.prompt_ids([{"role": "user", "content": text}])  # noqa: E731
    examples = [
        Example("refusal", ask("add two"), think.refuse_completion("i cannot"), "refuse", 0.9),
        Example("pool 1", ask("add"), [], "refuse", 0.8),
        Example("trace", ask("add two and three"), think.think_completion("two and", "it is 5"), "think", 0.1),
        Example("pool 2", ask("add two and two"), [], "think", 0.2),
    ]
    return examples, Collator.of(think, 0).pack(examples)


def order(examples):
    return [examples[k] for k in (1, 3, 0, 2)]


def starts(batch):
    return (batch.lengths.cumsum(0) - batch.lengths).tolist()


def test_the_pool_comes_first_with_the_empty_block_and_positions_restart(think, packed):
    examples, batch = packed
    block = think.empty_block_ids
    sequences = [e.prompt + (e.completion or block) for e in order(examples)]
    assert batch.input_ids.tolist() == [[token for sequence in sequences for token in sequence]]
    assert batch.position_ids.tolist() == [[k for sequence in sequences for k in range(len(sequence))]]
    assert batch.lengths.tolist() == [len(sequence) for sequence in sequences]
    assert batch.refuse_probability.tolist() == pytest.approx([0.8, 0.2, 0.9, 0.1])
    assert [Collator.of(think, 0).length(e) for e in order(examples)] == batch.lengths.tolist()


def test_targets_are_the_completions_alone_each_at_the_position_before_it(packed):
    examples, batch = packed
    assert batch.target_ids.tolist() == examples[0].completion + examples[2].completion
    assert batch.input_ids[0, batch.target_index + 1].tolist() == batch.target_ids.tolist()


def test_the_probe_reads_the_last_token_of_the_prompt(packed):
    examples, batch = packed
    ends = [start + len(e.prompt) - 1 for start, e in zip(starts(batch), order(examples), strict=True)]
    assert batch.pre_cot_index.tolist() == ends


def test_behind_the_decision_position_path_a_has_its_token_and_path_b_another(think, packed):
    _, batch = packed
    following = batch.input_ids[0, batch.decision_index + 1].tolist()
    assert following[:3] == [think.decision_token] * 3, "pool prompts and the refusal"
    assert following[3] != think.decision_token
    before = [
        batch.input_ids[0, p + 1 : d + 1].tolist()
        for p, d in zip(batch.pre_cot_index, batch.decision_index, strict=True)
    ]
    assert before == [think.decision_prefix] * 4


def test_anchors_are_the_pools_positions_around_the_decision_and_never_the_decision(think, packed):
    examples, batch = packed
    expected = []
    for start, length, example in zip(starts(batch)[:2], batch.lengths[:2].tolist(), order(examples)[:2], strict=True):
        last = start + len(example.prompt) - 1
        expected += [*range(last, last + len(think.decision_prefix)), start + length - 1]
    assert batch.anchor_index.tolist() == expected
    assert not set(expected) & set(batch.decision_index.tolist())
    assert batch.anchor_tokens == sum(batch.lengths[:2].tolist())
    assert max(expected) < batch.anchor_tokens


def test_an_empty_microbatch_is_one_token_and_no_index(think):
    batch = Collator.of(think, 7).pack([])
    assert batch.input_ids.tolist() == [[7]]
    assert batch.position_ids.tolist() == [[0]]
    for name, value in vars(batch).items():
        if name not in ("input_ids", "position_ids"):
            assert value == 0 if isinstance(value, int) else value.numel() == 0, name
    assert batch.target_index.dtype == batch.lengths.dtype == torch.long

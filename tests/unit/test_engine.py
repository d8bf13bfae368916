"""The batched engine against transformers, one prompt at a time."""

import pytest
import torch

from presafe.config import Decoding
from presafe.engines.exported import load_base
from presafe.engines.head import SafetyHead
from presafe.engines.transformers_engine import TransformersEngine
from run_directory import save_model

PROMPTS = [[5, 6, 7], list(range(10, 40)), [9], list(range(50, 61))]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    root = tmp_path_factory.mktemp("engine")
    save_model(root)
    return load_base(str(root / "base"), "float32")


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_greedy_completions_equal_those_of_single_prompts(loaded, batch_size):
    engine = TransformersEngine(loaded, None, batch_size)
    found = engine.generate(PROMPTS, Decoding(temperature=0, max_new_tokens=12), seed=0)
    for prompt, completion in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([prompt])
        alone = loaded.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        tokens = [t for t in alone[0, len(prompt) :].tolist() if t != loaded.tokenizer.eos_token_id]
        assert completion.text == loaded.tokenizer.decode(tokens)
        assert completion.finish_reason == ("length" if len(tokens) == 12 else "stop")


def test_the_same_seed_samples_the_same_and_another_one_does_not(loaded):
    engine = TransformersEngine(loaded, None, 2)
    decoding = Decoding(temperature=1.0, top_p=1.0, max_new_tokens=8)
    first, second, other = (engine.generate(PROMPTS, decoding, seed) for seed in (1, 1, 2))
    assert first == second != other


@pytest.mark.parametrize("batch_size", [1, 4])
def test_head_probabilities_are_read_at_the_last_prompt_token(loaded, batch_size):
    torch.manual_seed(0)
    head = SafetyHead(loaded.model.config.hidden_size)
    found = TransformersEngine(loaded, head, batch_size).refuse_probabilities(PROMPTS)
    for prompt, probability in zip(PROMPTS, found, strict=True):
        with torch.no_grad():
            output = loaded.model(torch.tensor([prompt]), output_hidden_states=True)
            expected = head(output.hidden_states[-1][0, -1]).sigmoid().item()
        assert probability == pytest.approx(expected, abs=1e-5)


def test_an_empty_prompt_is_stopped_before_the_model(loaded):
    with pytest.raises(AssertionError, match="empty prompt"):
        TransformersEngine(loaded, None, 2).generate([[]], Decoding(max_new_tokens=1), 0)

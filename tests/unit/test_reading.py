"""Every kind of head, read in padded batches, against a forward pass by hand of one prompt at a time."""

import pytest
import torch

from presafe.decision.head import SafetyHead
from presafe.decision.prefill import HeadReader
from presafe.engines.card import HeadCard
from presafe.engines.exported import load_base
from run_directory import save_model

TEXTS = ["add two", "please add two and three and lamp kite", "lamp", "please add two and three"]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    root = tmp_path_factory.mktemp("reading")
    save_model(root)
    return load_base(str(root / "base"), "float32")


def reader(loaded, card):
    torch.manual_seed(0)
    probe = None if card.kind == "readout" else SafetyHead(loaded.model.config.hidden_size)
    return HeadReader(card, probe, loaded.format)


@torch.no_grad()
def by_hand(loaded, head, prompt):
    """p' of the definition: softmax at the decision position, or sigmoid(w . h + b)."""
    shared = loaded.format.decision_prefix if head.card.kind == "readout" else []
    output = loaded.model(torch.tensor([prompt + shared]), output_hidden_states=True)
    if head.card.kind == "readout":
        return output.logits[0, -1].softmax(-1)[loaded.format.decision_token].item()
    hidden = output.hidden_states[head.card.layer][0]
    state = hidden[-1] if head.card.kind == "linear" else hidden.mean(dim=0)
    weight, bias = head.probe.linear.weight[0], head.probe.linear.bias[0]
    return torch.sigmoid(weight @ state + bias).item()


CARDS = [
    HeadCard(kind="linear"),
    HeadCard(kind="linear", layer=1),
    HeadCard(kind="mean"),
    HeadCard(kind="mean", layer=1),
    HeadCard(kind="readout"),
]


@torch.no_grad()
@pytest.mark.parametrize("card", CARDS, ids=lambda card: f"{card.kind} {card.layer}")
def test_probabilities_equal_a_forward_pass_by_hand(loaded, card):
    head = reader(loaded, card)
    prompts = [loaded.format.prompt_ids([{"role": "user", "content": text}]) for text in TEXTS]
    expected = [by_hand(loaded, head, prompt) for prompt in prompts]
    assert head.probabilities(loaded.model, prompts) == pytest.approx(expected, abs=1e-6)
    width = max(map(len, prompts))
    padded = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    assert head.read(loaded.model, padded, mask).probabilities == pytest.approx(expected, abs=1e-6)
    assert len({round(p, 6) for p in expected}) > 1


def test_the_cache_behind_a_readout_ends_with_the_prompt(loaded):
    """The decision position is read in the same pass, but generation goes on from the prompt."""
    assert loaded.format.decision_prefix
    ids = torch.tensor([loaded.format.prompt_ids([{"role": "user", "content": TEXTS[1]}])])
    with torch.no_grad():
        reading = reader(loaded, HeadCard(kind="readout")).read(loaded.model, ids, cache=True)
        next_token = torch.tensor([[7]])
        step = loaded.model(next_token, past_key_values=reading.cache).logits[0, -1]
        whole = loaded.model(torch.cat([ids, next_token], dim=1)).logits[0]
    first = loaded.model.get_output_embeddings()(reading.pre_cot[0])
    assert torch.allclose(first, whole[-2], atol=1e-5)
    assert torch.allclose(step, whole[-1], atol=1e-5)

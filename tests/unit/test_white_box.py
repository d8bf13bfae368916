"""Attacks that look into a model: gradients against autograd, latents against arithmetic, and what they spend."""

import random
from dataclasses import replace
from functools import cache

import pytest
import torch
from adaptive_attack import PROMPT, REFUSED, Decisions, oracle

from presafe.attacks.adaptive.oracle import Oracle
from presafe.attacks.adaptive.search import Against, searched
from presafe.attacks.adaptive.steering import STEP, direction, steered, steered_answer, steering
from presafe.attacks.adaptive.suffix import begun, losses, neighbours, objective, suffix, token_gradient
from presafe.attacks.adaptive.target import Seen
from presafe.attacks.adaptive.white_box import WhiteBox
from presafe.config import Adaptive, Decoding
from presafe.decision.events import shortest
from presafe.decision.head import SafetyHead
from presafe.engines.card import Card, HeadCard
from presafe.engines.exported import LoadedModel
from presafe.thinking import think_format
from support import random_qwen2
from tiny_tokenizer import QWEN3, R1, tiny_tokenizer

GREEDY = Decoding(temperature=0, max_new_tokens=8)


@cache
def box(template: str, kind: str) -> WhiteBox:
    """A random tiny model with a random head."""
    tokenizer = tiny_tokenizer(template)
    stops = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = random_qwen2(len(tokenizer) + 3, **stops).eval()
    torch.manual_seed(1)
    card = Card(
        base_model="none",
        dtype="float32",
        think_format={},
        head=HeadCard(kind=kind),
        threshold=0.5,
        max_over_refusal=0.01,
        refusal="no",
        config_hash="none",
        metrics={},
    )
    head = SafetyHead(32) if kind == "linear" else None
    return WhiteBox(LoadedModel(model, tokenizer, think_format(tokenizer), head, card), 400)


MODELS = [(QWEN3, "linear"), (QWEN3, "readout"), (R1, "linear"), (R1, "readout")]
every_model = pytest.mark.parametrize(("template", "kind"), MODELS, ids=["qwen3", "qwen3-readout", "r1", "r1-readout"])


@every_model
@torch.no_grad()
def test_the_white_box_reads_what_the_gate_reads(template, kind):
    inside = box(template, kind)
    prompts = [inside.prompt_ids(text, []) for text in (PROMPT.text, PROMPT.text.replace("i", "a", 1))]
    reader = inside.loaded.reader
    assert reader is not None
    read = inside.read(prompts)
    assert [seen.refuse_probability for seen in read.seen] == pytest.approx(
        reader.probabilities(inside.model, prompts), abs=1e-6
    )
    behind = [[*prompt, *inside.think.decision_prefix] for prompt in prompts]
    likeliest = inside.model(torch.tensor(behind)).logits[:, -1].argmax(dim=-1)
    assert read.refuses.tolist() == (likeliest == inside.think.decision_token).tolist()


@every_model
@pytest.mark.parametrize("gate", ["off", "on"])
def test_the_gradient_of_the_tokens_is_that_of_one_hot_inputs(template, kind, gate):
    inside = box(template, kind)
    candidate = begun(PROMPT, inside, 5)
    assert candidate is not None
    found = token_gradient(inside, candidate, gate)
    one_hot = torch.nn.functional.one_hot(torch.tensor(candidate.ids), len(inside.vocabulary)).float().requires_grad_()
    objective(inside.read_embedded((one_hot @ inside.vocabulary)[None]), gate).sum().backward()
    assert found.shape == (len(candidate.slots), len(inside.vocabulary))
    assert torch.allclose(found, one_hot.grad[list(candidate.slots)], atol=1e-6)
    assert found.abs().max() > 1e-4


def test_the_gradient_of_the_tokens_is_that_of_finite_differences():
    inside, step = box(QWEN3, "readout"), 0.1
    candidate = begun(PROMPT, inside, 5)
    slopes = token_gradient(inside, candidate, "off")
    embedded = inside.embedded([candidate.ids])
    for place in slopes.abs().flatten().topk(4).indices.tolist():
        slot, token = divmod(place, slopes.shape[1])
        moved = []
        for sign in (1, -1):
            shifted = embedded.clone()
            shifted[0, candidate.slots[slot]] += sign * step * inside.vocabulary[token]
            moved.append(objective(inside.read_embedded(shifted), "off").item())
        assert (moved[0] - moved[1]) / (2 * step) == pytest.approx(slopes[slot, token].item(), rel=0.02)


@every_model
def test_every_candidate_is_a_text_that_reads_back_as_its_ids(template, kind):
    inside = box(template, kind)
    best = begun(PROMPT, inside, 5)
    slopes = token_gradient(inside, best, "off")
    found = neighbours(PROMPT, inside, best, slopes, random.Random(0), 12)
    assert len({one.text for one in found}) == len(found) == 12
    control = {*inside.think.tokenizer.all_special_ids}
    for one in found:
        assert inside.prompt_ids(one.text, []) == list(one.ids)
        (changed,) = [k for k, (a, b) in enumerate(zip(one.ids, best.ids, strict=True)) if a != b]
        assert changed in best.slots
        assert one.ids[changed] not in control
        assert one.text.startswith(PROMPT.text)


@every_model
def test_a_suffix_never_gets_worse_and_spends_what_it_has(template, kind):
    inside, decisions = box(template, kind), Decisions()
    asking = oracle(decisions, budget=60)
    suffix(asking, random.Random(0), inside, 5, 8)
    confirmed = [one.text for one in decisions.asked[1:]]
    assert len(confirmed) > 2
    start = begun(PROMPT, inside, 5)
    ids = [inside.prompt_ids(text, []) for text in confirmed]
    values = losses(inside, [replace(start, ids=tuple(one)) for one in ids], "off")
    assert values == sorted(values, reverse=True)
    assert len({*values}) == len(values)
    steps = asking.backward_passes
    assert asking.spent == 60
    assert asking.queries == 1 + len(confirmed)
    assert asking.forward_passes == 59 + steps + asking.queries, "each candidate, each gradient, each query"


def test_a_suffix_counts_where_the_engine_is_seen_to_answer():
    decisions = Decisions(lambda number, _: REFUSED if number < 3 else Seen("think", 0.1))
    asking = oracle(decisions, budget=100)
    suffix(asking, random.Random(0), box(QWEN3, "linear"), 5, 8)
    assert asking.broke == decisions.asked[2]
    assert asking.broke_at == asking.spent
    assert (asking.spent - 2) % 8 == 0, "the prompt, the fillers, whole steps"


@every_model
def test_steering_moves_the_head_along_its_own_direction(template, kind):
    inside = box(template, kind)
    prompt = inside.prompt_ids(PROMPT.text, [])
    along = direction(inside, prompt, middle=False)
    plain = inside.read([prompt])
    with torch.no_grad():
        seen = steered(inside, prompt, along, [0.0, 0.5, 1.0])
    logits = torch.tensor([one.refuse_probability for one in seen]).logit()
    assert logits[0].item() == pytest.approx(plain.head.item(), abs=1e-5)
    assert logits[2] < logits[1] < logits[0]
    if kind == "linear":
        weight = inside.loaded.head.linear.weight[0]
        assert torch.allclose(along.unit, -weight / weight.norm(), atol=1e-5)
        fall = along.length * weight.norm().item()
        assert logits.tolist() == pytest.approx([plain.head.item() - s * fall for s in (0, 0.5, 1)], abs=1e-4)


@every_model
@pytest.mark.parametrize("middle", [False, True])
def test_steering_spends_a_pass_a_strength_and_breaks_where_the_head_gives_in(template, kind, middle):
    inside = box(template, kind)
    asking = Oracle(Decisions(), PROMPT, "on", 1e-9, 11)
    along = steering(asking, inside, middle=middle)
    assert (asking.spent, asking.backward_passes, asking.broke_at) == (11, 1, None)
    assert asking.forward_passes == 12 + asking.queries, "the direction, each strength, each answer that was begun"
    assert torch.linalg.vector_norm(along.unit).item() == pytest.approx(1.0, abs=1e-5)
    prompt = inside.prompt_ids(PROMPT.text, [])
    seen = steered(inside, prompt, along, [k * STEP for k in range(40)])
    broken = [
        k
        for k, one in enumerate(seen)
        if one.path != "refuse"
        and one.refuse_probability < 0.3
        and inside.path(steered_answer(inside, PROMPT, along, k * STEP, shortest(inside.think))) != "refuse"
    ]
    asking = Oracle(Decisions(), PROMPT, "on", 0.3, 40)
    steering(asking, inside, middle=middle)
    assert asking.broke_at == (broken[0] + 1 if broken else None)


def test_a_prompt_that_is_not_taken_is_told_and_costs_nothing():
    def unasked() -> WhiteBox:
        return WhiteBox(box(QWEN3, "linear").loaded, max_prompt_tokens=3)

    against = Against(Adaptive(), GREEDY, 0.5, 0, target=lambda: pytest.fail("never asked"), box=unasked)
    row = searched(replace(PROMPT, attack="steering"), against)
    assert "the engine takes 3" in row.error
    assert (row.spent, row.broke_at, row.finish_reason) == (0, None, None)

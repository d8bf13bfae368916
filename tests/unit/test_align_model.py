"""The packed forward equals one sequence at a time, and its gradients are those of finite differences in float64."""

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.autograd import gradcheck

from presafe.align.module.collate import Collator
from presafe.align.module.model import HeadSpec, PreSafeModel
from presafe.decision.head import SafetyHead
from presafe.records import Example
from support import VOCABULARY, random_qwen2, uneven_examples

COLLATOR = Collator(pad_id=0, block=(5, 6, 7, 8), shared=1)
SPECS = {
    "linear": HeadSpec("linear", 6),
    "inner layer": HeadSpec("linear", 6, layer=1),
    "mean": HeadSpec("mean", 6),
    "mean of an inner layer": HeadSpec("mean", 6, layer=1),
    "readout": HeadSpec("readout", 6),
    "anchored": HeadSpec("readout", 6, anchored=True),
    "none": HeadSpec("none", 6),
}


TINY = [
    Example("pool 1", [1, 2], [], "refuse", 0.9),
    Example("refusal", [2, 3], [5, 6, 7, 8, 4], "refuse", 0.7),
    Example("pool 2", [3, 4, 1], [], "think", 0.2),
    Example("trace", [1], [5, 9, 2], "think", 0.1),
]
"""For finite differences, which run a forward for every number twice."""


def model(spec: HeadSpec, vocabulary: int = VOCABULARY, hidden_size: int = 32, layers: int = 2) -> PreSafeModel:
    """With an adapter that is not zero, so that the base differs from it."""
    lora = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    lm = get_peft_model(random_qwen2(vocabulary, hidden_size, num_hidden_layers=layers), lora)
    return PreSafeModel(lm, spec, SafetyHead(hidden_size) if spec.probes else None).train()


def examples() -> list[Example]:
    """Two of the pool, two refusals, two chains of thought, all short."""
    found = []
    for example in uneven_examples()[:6]:
        start = [5, 6, 7, 8] if example.path == "refuse" else [5, 9]
        found.append(replace(example, completion=(start + example.completion)[:12] if example.completion else []))
    return found


def forward(module: PreSafeModel, rows: list[Example], **changes: torch.Tensor):
    return module(**{**COLLATOR.pack(rows).to(torch.device("cpu")), **changes})


@pytest.mark.parametrize("training", [True, False], ids=["training", "looking"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_packed_row_equals_its_sequences_one_at_a_time(spec, training):
    module = model(spec).train(training)
    rows = sorted(examples(), key=lambda row: bool(row.completion))
    with torch.no_grad():
        packed = forward(module, rows)
        single = [forward(module, [row]) for row in rows]
    assert torch.allclose(packed.sums, torch.stack([one.sums for one in single]).sum(0), rtol=1e-5, atol=1e-5)
    assert torch.allclose(packed.head_logits, torch.cat([one.head_logits for one in single]), atol=1e-5)
    assert packed.refuses.tolist() == torch.cat([one.refuses for one in single]).tolist()
    assert len(packed.refuses) == (len(rows) if spec.kind == "readout" or not training else 0)
    assert (packed.sums[1] > 0) == (spec.kind != "none")
    assert (packed.sums[2] > 0) == (spec.anchored and training)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_an_empty_microbatch_adds_nothing_and_still_has_a_gradient(spec):
    module = model(spec)
    output = forward(module, [])
    assert output.sums.tolist() == [0, 0, 0]
    assert output.head_logits.numel() == 0
    output.sums.sum().backward()
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    assert gradients
    assert all((gradient == 0).all() for gradient in gradients)


def leaf_behind(layer: torch.nn.Module, module: PreSafeModel, rows: list[Example]) -> torch.Tensor:
    """A leaf in float64 with the layer's output, in whose place the trained forward from now on uses it."""
    seen: list[torch.Tensor] = []
    watching = layer.register_forward_hook(lambda _, __, out: seen.append(out.detach().clone()))
    forward(module, rows)
    watching.remove()
    leaf = seen[-1].requires_grad_()
    layer.register_forward_hook(lambda _, __, out: leaf if torch.is_grad_enabled() else out)
    return leaf


@pytest.mark.parametrize("kind", ["linear", "mean", "readout"])
def test_gradients_of_l_align_are_those_of_finite_differences(kind):
    """With respect to the latent, hidden states [1, T, 8] behind the final norm, and to the head's weight and bias."""
    module = model(HeadSpec(kind, 6), vocabulary=10, hidden_size=8, layers=1).double()
    latent = leaf_behind(module.lm.get_base_model().model.norm, module, TINY)
    signals = torch.tensor([0.9, 0.2, 0.7, 0.1], dtype=torch.float64)
    inputs = [latent, *(module.head.parameters() if module.head is not None else ())]
    assert gradcheck(lambda *_: forward(module, TINY, refuse_probability=signals).sums[1], inputs, atol=1e-8, rtol=1e-6)
    forward(module, TINY, refuse_probability=signals).sums[1].backward()
    touched = latent.grad[0].abs().sum(dim=1) > 0
    tokens = COLLATOR.pack(TINY).pooled.sum()
    assert touched.sum() == (tokens if kind == "mean" else len(TINY)), "only what the head reads has a gradient"


@pytest.mark.parametrize("kind", ["linear", "mean", "readout"])
def test_a_demonstration_without_a_signal_leaves_l_align_to_the_others(kind):
    """Sum and gradients are those of plain PyTorch on the others' logits, and nothing flows into its own tokens."""
    module = model(HeadSpec(kind, 6), vocabulary=10, hidden_size=8, layers=1).double()
    rows = [TINY[0], replace(TINY[1], refuse_probability=None), TINY[2], TINY[3]]
    latent = leaf_behind(module.lm.get_base_model().model.norm, module, rows)
    output = forward(module, rows, refuse_probability=torch.tensor([0.9, 0.2, 0.1], dtype=torch.float64))
    output.sums[1].backward()
    found = latent.grad.clone()
    latent.grad = None
    every = forward(module, TINY, refuse_probability=torch.tensor([0.9, 0.2, 0.5, 0.1], dtype=torch.float64))
    assert torch.equal(every.head_logits, output.head_logits)
    order = [0, 2, 1, 3]
    expected = 0.0
    for place, target in ((0, 0.9), (1, 0.2), (3, 0.1)):
        alone = forward(
            module, TINY, signal_index=torch.tensor([place]), refuse_probability=torch.tensor([target]).double()
        )
        p = every.head_logits[place].sigmoid()
        expected += -(target * p.log() + (1 - target) * (1 - p).log())
        alone.sums[1].backward()
    assert output.sums[1].item() == pytest.approx(expected.item(), abs=1e-12)
    assert torch.allclose(found, latent.grad, atol=1e-12)
    batch = COLLATOR.pack([rows[k] for k in order])
    begin = int(batch.lengths[:2].sum())
    assert (found[0, begin : begin + int(batch.lengths[2])] == 0).all()
    assert (found[0, :begin] != 0).any()


def test_gradients_of_the_anchor_are_those_of_finite_differences():
    """With respect to the logits, of which the first are the targets' and the last the anchors'."""
    module = model(HeadSpec("readout", 6, anchored=True), vocabulary=10, hidden_size=8, layers=1).double()
    logits = leaf_behind(module.lm.get_base_model().lm_head, module, TINY)
    assert gradcheck(lambda _: forward(module, TINY).sums[2], [logits], atol=1e-8, rtol=1e-6)
    forward(module, TINY).sums[2].backward()
    anchors = len(COLLATOR.pack(TINY).anchor_index)
    assert (logits.grad.abs().sum(dim=1) > 0).tolist() == [False] * (len(logits) - anchors) + [True] * anchors
    assert torch.allclose(logits.grad.sum(dim=1), torch.zeros(len(logits), dtype=torch.float64), atol=1e-12)

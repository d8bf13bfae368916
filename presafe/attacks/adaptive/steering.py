"""The latent moved against the head's direction: which dimension the decision lives in."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from presafe.attacks.adaptive.oracle import Oracle
from presafe.attacks.adaptive.target import Seen
from presafe.attacks.adaptive.white_box import WhiteBox
from presafe.config import Decoding, TransformersSettings
from presafe.conversation import Conversation
from presafe.decision.events import shortest
from presafe.engines.engine import Completion, Query
from presafe.engines.transformers_engine import TransformersEngine

STEP = 1 / 16
"""Strength of a unit of budget, in lengths of the latent itself."""
BATCH = 8
"""Strengths that are tried together."""


@dataclass(frozen=True)
class Direction:
    """unit: [D], along which the head's logit falls fastest; `length` is that of the latent which it is added to.

    `module` is the one whose output is moved: the final norm, which head and next token read, or the middle layer.
    """

    module: torch.nn.Module
    unit: torch.Tensor
    length: float


def steering(oracle: Oracle, box: WhiteBox, *, middle: bool) -> Direction:
    """Aims at the latent itself: -alpha times the unit vector along which the head's logit rises, from the pre-CoT
    position on to that of the decision token, where the head reads (for a linear head w / |w|) or at the middle layer.

    The attacker runs the weights as he likes, as no client can. It shows whether the model's own decision follows the
    head's direction, and how far a latent must move: the budget is alpha, in sixteenths of the latent's length. What
    breaks is what the steered model is seen to say, which may be a refusal in other tokens. Costs a forward pass a unit
    of budget, before that a forward and a backward pass, and a query where the decision token is not the likeliest.
    """
    prompt = box.prompt_ids(oracle.prompt.text, oracle.prompt.earlier)
    along = direction(box, prompt, middle=middle)
    oracle.forward_passes += 1
    oracle.backward_passes += 1
    while oracle.left:
        strengths = [(oracle.spent + k) * STEP for k in range(min(BATCH, oracle.left))]
        for strength, seen in zip(strengths, steered(box, prompt, along, strengths), strict=True):
            if seen.path != "refuse":
                begun = steered_answer(box, oracle.prompt, along, strength, shortest(box.think))
                seen = replace(seen, path=box.path(begun))
                oracle.queried()
            oracle.decided(seen)
            if not oracle.left:
                break
    return along


def direction(box: WhiteBox, prompt: Sequence[int], *, middle: bool) -> Direction:
    """Of one prompt, by the gradient of the head's logit."""
    body = box.model.base_model
    module = body.layers[(len(body.layers) - 1) // 2] if middle else body.norm
    shift = torch.zeros(body.config.hidden_size, device=box.model.device, requires_grad=True)
    length = 0.0

    def measured(state: torch.Tensor) -> torch.Tensor:
        nonlocal length
        length = state[0, -box.decided_at].detach().float().norm().item()
        return _moved(state, shift, box.decided_at)

    with _output(module, measured):
        (gradient,) = torch.autograd.grad(box.read([prompt]).head.sum(), shift)
    return Direction(module, -gradient / gradient.norm(), length)


@torch.inference_mode()
def steered(box: WhiteBox, prompt: Sequence[int], along: Direction, strengths: Sequence[float]) -> list[Seen]:
    """What the model decides with its latent moved so far, in lengths of that latent."""
    shifts = along.length * along.unit * torch.tensor(strengths, device=along.unit.device)[:, None, None]
    with _output(along.module, lambda state: _moved(state, shifts, box.decided_at)):
        return box.read([prompt] * len(strengths)).seen


def steered_answer(
    box: WhiteBox, asked: Conversation, along: Direction, strength: float, max_new_tokens: int
) -> Completion:
    """What the model writes, greedily, where its latent was moved at the decision alone."""
    settings = TransformersSettings(max_prompt_tokens=box.max_prompt_tokens)
    engine, passes = TransformersEngine(box.loaded, settings), 0

    def at_the_decision(state: torch.Tensor) -> torch.Tensor:
        nonlocal passes
        passes += 1
        return _moved(state, strength * along.length * along.unit, 1) if passes <= box.decided_at else state

    query = Query(asked.text, "on", earlier=list(asked.earlier))
    with _output(along.module, at_the_decision):
        return engine.generate([query], Decoding(temperature=0, max_new_tokens=max_new_tokens), seed=0)[0]


def _moved(state: torch.Tensor, shift: torch.Tensor, positions: int) -> torch.Tensor:
    """States [B, T, D] with `shift`, [D] or [B, 1, D], added at the last positions."""
    return torch.cat([state[:, :-positions], state[:, -positions:] + shift.to(state.dtype)], dim=1)


@contextmanager
def _output(module: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """While the body runs, the module's output is what `change` makes of it."""
    handle = module.register_forward_hook(lambda _module, _inputs, state: change(state))
    try:
        yield
    finally:
        handle.remove()

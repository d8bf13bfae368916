"""A suffix searched token by token along the gradient (GCG, arXiv 2307.15043), against the decision alone."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from presafe.attacks.adaptive.oracle import Oracle, UnaskedError
from presafe.attacks.adaptive.white_box import Logits, WhiteBox
from presafe.conversation import Conversation
from presafe.decision.rule import GateMode
from presafe.errors import UserError

FILLER = " !"
"""What a suffix begins as, a token each."""
LIKELIEST = 64
"""Tokens by gradient that a slot's next one is drawn from."""
DRAWS = 8
"""Draws for each candidate that is wanted: some do not survive the tokenizer."""


@dataclass(frozen=True)
class Suffixed:
    """A prompt with its suffix: the user's turn as text, the whole rendered prompt as ids, and which of those are the
    suffix's."""

    text: str
    ids: tuple[int, ...]
    slots: range


def suffix(oracle: Oracle, rng: random.Random, box: WhiteBox, tokens: int, width: int) -> None:
    """Aims at what the decision is made of: the log-odds of the decision token and, with the gate on, the head's logit.

    The attacker has the weights, and looks for words behind the prompt, whatever they mean. A step takes the gradient
    of both with regard to one-hot inputs, draws candidates that replace one token by one of the likeliest, and keeps
    the best of them where it is better than the best so far. A candidate is a text that the tokenizer reads back as the
    same ids. Costs a forward pass a unit of budget, a forward and a backward pass a step beside that, and a query where
    the best has changed: what breaks is what the engine is seen to answer.
    """
    oracle.refused([oracle.prompt.text])
    best = begun(oracle.prompt, box, tokens)
    if best is None:
        return
    tried, lowest = [best], float("inf")
    while tried and oracle.left:
        found = losses(box, tried, oracle.gate)
        oracle.weighed(len(tried))
        place = min(range(len(tried)), key=found.__getitem__)
        if found[place] < lowest:
            lowest, best = found[place], tried[place]
            if oracle.confirmed(best.text):
                return
        if oracle.left:
            slopes = token_gradient(box, best, oracle.gate)
            oracle.forward_passes += 1
            oracle.backward_passes += 1
            tried = neighbours(oracle.prompt, box, best, slopes, rng, min(width, oracle.left))


def begun(prompt: Conversation, box: WhiteBox, tokens: int) -> Suffixed | None:
    """The prompt with a suffix of fillers; None where the template drops it, or the tokenizer does not read it back."""
    plain = box.prompt_ids(prompt.text, prompt.earlier)
    ids = box.prompt_ids(prompt.text + FILLER * tokens, prompt.earlier)
    if len(ids) <= len(plain):
        return None
    first = next((k for k, (one, other) in enumerate(zip(plain, ids, strict=False)) if one != other), len(plain))
    slots = range(first, first + len(ids) - len(plain))
    text = spelt(prompt, box, ids, slots)
    return None if text is None else Suffixed(text, tuple(ids), slots)


def spelt(prompt: Conversation, box: WhiteBox, ids: Sequence[int], slots: range) -> str | None:
    """The user's turn that renders as these ids; None where no text does."""
    tail = str(box.think.tokenizer.decode([ids[k] for k in slots]))
    for between in ("", " "):  # some tokenizers leave the space out in front of what they decode
        text = f"{prompt.text}{between}{tail}"
        try:
            if box.prompt_ids(text, prompt.earlier) == list(ids):
                return text
        except (UserError, UnaskedError):  # it would hold a control token, or be too long
            continue
    return None


def objective(logits: Logits, gate: GateMode) -> torch.Tensor:
    """What the suffix is to lower, [B]."""
    return logits.token + logits.head if gate == "on" else logits.token


@torch.inference_mode()
def losses(box: WhiteBox, candidates: Sequence[Suffixed], gate: GateMode) -> list[float]:
    """Of candidates of one length, the lower the better."""
    found: list[float] = objective(box.read([one.ids for one in candidates]), gate).tolist()
    return found


def token_gradient(box: WhiteBox, candidate: Suffixed, gate: GateMode) -> torch.Tensor:
    """Gradient [S, V] of the objective with regard to the one-hot tokens of the S slots."""
    embedded = box.embedded([candidate.ids]).requires_grad_()
    (gradient,) = torch.autograd.grad(objective(box.read_embedded(embedded), gate).sum(), embedded)
    return gradient[0, list(candidate.slots)] @ box.vocabulary.T


def neighbours(
    prompt: Conversation, box: WhiteBox, best: Suffixed, slopes: torch.Tensor, rng: random.Random, count: int
) -> list[Suffixed]:
    """At most `count` different candidates, with one token of `best` replaced by one that the gradient says lowers the
    objective most; only such as survive the tokenizer."""
    slopes = slopes.clone()
    slopes[:, box.unspeakable] = torch.inf
    slopes[torch.arange(len(best.slots)), [best.ids[k] for k in best.slots]] = torch.inf
    likeliest = (-slopes).topk(min(LIKELIEST, slopes.shape[1])).indices.tolist()
    found: dict[tuple[int, ...], Suffixed] = {}
    for _ in range(DRAWS * count):
        place = rng.randrange(len(best.slots))
        ids = list(best.ids)
        ids[best.slots[place]] = rng.choice(likeliest[place])
        if (text := spelt(prompt, box, ids, best.slots)) is not None:
            found[tuple(ids)] = Suffixed(text, tuple(ids), best.slots)
        if len(found) == count:
            break
    return list(found.values())

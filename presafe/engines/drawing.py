"""A client's sampling, on Path B."""

import torch

from presafe.engines.streaming import Sampling


class Drawing:
    """Draws the tokens of one completion: the same seed and logits draw the same tokens, whatever is in the batch."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random: torch.Generator | None = None

    def draw(self, logits: torch.Tensor, greedy: int) -> int:
        """A token of logits [vocabulary] whose largest is at `greedy`."""
        if self._sampling.temperature == 0:
            return greedy
        if self._random is None:
            self._random = torch.Generator(logits.device)
            if self._sampling.seed is None:
                self._random.seed()
            else:
                self._random.manual_seed(self._sampling.seed)
        return _draw(logits, self._sampling.temperature, self._sampling.top_p, self._random)


def _draw(logits: torch.Tensor, temperature: float, top_p: float, random: torch.Generator) -> int:
    """A token out of the smallest set of most probable ones that holds `top_p`; at least the most probable one."""
    logits = logits.float()
    if top_p >= 1:
        return int(torch.multinomial(torch.softmax((logits - logits.max()) / temperature, -1), 1, generator=random))
    probabilities, order = torch.softmax((logits - logits.max()) / temperature, -1).sort(descending=True)
    probabilities_before = probabilities.cumsum(-1) - probabilities
    kept = torch.where(probabilities_before > top_p, 0.0, probabilities)
    return int(order[torch.multinomial(kept, 1, generator=random)])

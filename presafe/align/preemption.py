"""Notices that a node is about to be taken away, as every rank sees them."""

import ray.train
from ray.train import PreemptionInfo


class Notices:
    """Which notices were answered already.

    The steps go on after the answer, a checkpoint: a rank that left early would count as a failure of its own, and
    what is trained until the node goes is at worst done again.
    """

    def __init__(self) -> None:
        self._answered: PreemptionInfo | None = None

    def new(self) -> bool:
        """Whether nodes were given notice since the last call. A barrier: every rank calls it, and gets the same."""
        info = ray.train.get_preemption_info()
        fresh = info is not None and info != self._answered
        self._answered = info
        return fresh

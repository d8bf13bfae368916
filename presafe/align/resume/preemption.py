"""Notices that a node is about to be taken away, as every rank sees them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray.train
from ray.train import PreemptionInfo

UNKNOWN_DEADLINE_SECONDS = 120.0
"""What Ray Train too waits for a node whose notice names no deadline."""


class Notices:
    """Which notices were answered already.

    The steps go on after the answer, a checkpoint: a rank that left early would count as a failure of its own, and
    what is trained until the node goes is at worst done again.
    """

    def __init__(self) -> None:
        self._answered: PreemptionInfo | None = None
        self._deadline = 0.0

    def new(self) -> bool:
        """Whether nodes were given notice since the last call. A barrier: every rank calls it, and gets the same."""
        info = ray.train.get_preemption_info()
        fresh = info is not None and info != self._answered
        if fresh:
            given = info.deadline_ms
            self._deadline = given / 1000 if given is not None else time.time() + UNKNOWN_DEADLINE_SECONDS
        self._answered = info
        return fresh

    @contextmanager
    def patience(self) -> Iterator[None]:
        """Hold an error of the body back until the deadline of the last notice, by when Ray Train ends this rank.

        The collectives of those who stay fail as soon as the node is gone. Ray learns of its death some seconds later,
        and until then takes such an error for a failure that counts.
        """
        try:
            yield
        except RuntimeError:
            time.sleep(max(0.0, self._deadline + 10 - time.time()) if self._answered is not None else 0.0)
            raise

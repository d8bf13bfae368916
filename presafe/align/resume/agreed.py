"""Errors that all ranks of the training group raise together, so that the run ends at once instead of being retried.

Ray Train takes an exception in a worker for a lost worker, and starts the group again. What the same data and settings
would only meet again, `train_worker` hands back as its result instead; every rank has to, or the others would wait.
"""

from typing import Any

import torch.distributed as dist

from presafe.errors import UserError


class AgreedError(UserError):
    """Raised at the same point on every rank."""


def agree(found: UserError | None) -> None:
    """Raise on every rank what any rank found, the first one's. A collective: every rank calls it."""
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, None if found is None else str(found))
    told = [message for message in everyone if message is not None]
    if told:
        raise AgreedError(told[0])

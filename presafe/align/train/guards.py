"""What a training rank is watched by."""

from dataclasses import dataclass

from presafe.align.resume.checkpoint import Checkpoints
from presafe.align.resume.preemption import Notices
from presafe.align.train.watchdog import Watchdog


@dataclass(frozen=True)
class Guards:
    """Where its checkpoints go, the notices it has answered, and the watchdog that wants a sign after each step."""

    checkpoints: Checkpoints
    notices: Notices
    watchdog: Watchdog

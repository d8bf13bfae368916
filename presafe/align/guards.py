"""What a training rank is watched by."""

from dataclasses import dataclass

from presafe.align.checkpoint import Checkpoints
from presafe.align.preemption import Notices
from presafe.align.watchdog import Watchdog


@dataclass(frozen=True)
class Guards:
    """Where its checkpoints go, the notices it has answered, and the watchdog that wants a sign after each step."""

    checkpoints: Checkpoints
    notices: Notices
    watchdog: Watchdog

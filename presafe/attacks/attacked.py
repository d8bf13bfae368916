"""What an attack makes of a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

from presafe.conversation import Prefill, Turn


@dataclass(frozen=True)
class Attacked:
    """A conversation under an attack: the user's last turn, the turns before it, the beginning of the assistant's."""

    text: str
    earlier: Sequence[Turn] = ()
    prefill: Prefill | None = None


def exchange(said: str, answered: str) -> list[Turn]:
    """A turn of the user and the assistant's answer."""
    return [{"role": "user", "content": said}, {"role": "assistant", "content": answered}]

"""Under what a suite's prompts are asked: what the suite says of them (`suites.attack`), and an attack around that."""

from collections.abc import Mapping
from types import MappingProxyType

from presafe.config.attacks import NO_ATTACK

Labels = Mapping[str, str]
"""What each suite says of its prompts; of one that is not named, nothing."""
NO_LABELS: Labels = MappingProxyType({})


def asked(suite: str, attack: str) -> str:
    """A suite as tables and policies name it: with the attack behind an `@`, where there is one."""
    return suite if attack == NO_ATTACK else f"{suite}@{attack}"


def joined(label: str, attack: str) -> str:
    """What a record has of both; NO_ATTACK stands for either that is not there."""
    return " + ".join(name for name in (label, attack) if name != NO_ATTACK) or NO_ATTACK


def attack_of(label: str, both: str) -> str:
    """The attack around a suite with this label, where a record has `both`."""
    return NO_ATTACK if both == label else both.removeprefix(f"{label} + ")

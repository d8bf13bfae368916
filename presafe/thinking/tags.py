"""Think tags: those that published models use, and what else in angle or square brackets may be one."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Tags:
    """A pair of think tags."""

    open: str
    close: str

    @property
    def opened(self) -> re.Pattern[str]:
        """The end of a prompt that has opened the block; group 1 is the white space behind the tag."""
        return re.compile(rf"{re.escape(self.open)}(\s*)$")

    @property
    def empty(self) -> re.Pattern[str]:
        """The end of a prompt that has closed an empty block: the block with the white space around it.

        Some templates close a block that they never open (GLM-4.7, DeepSeek-V3.1).
        """
        return re.compile(rf"\s*(?:{re.escape(self.open)}\s*)?{re.escape(self.close)}\s*$")


KNOWN = (
    Tags("<think>", "</think>"),
    Tags("<thinking>", "</thinking>"),
    Tags("<thought>", "</thought>"),
    Tags("<reasoning>", "</reasoning>"),
    Tags("<reason>", "</reason>"),
    Tags("<seed:think>", "</seed:think>"),
    Tags("<longcat_think>", "</longcat_think>"),
    Tags("[THINK]", "[/THINK]"),
    Tags("<|START_THINKING|>", "<|END_THINKING|>"),
    Tags("<|begin_of_thought|>", "<|end_of_thought|>"),
    Tags("◁think▷", "◁/think▷"),
)
"""Think tags of published models. One of these at the end of a prompt needs no other proof."""

CHANNELS = {"<|channel|>": "gpt-oss (harmony)", "<|channel>": "Gemma 4"}
"""Marks of formats that put the reasoning into a channel, and whose they are: they have no block to leave empty."""

WRAPPERS = (Tags("<answer>", "</answer>"), Tags("<response>", "</response>"))
"""What some models put around their answer by themselves."""

ROLES = {"assistant", "ai", "bot", "chatbot", "gpt", "model", "system", "user", "human", "agent"} | {
    "answer",
    "response",
    "output",
    "final",
}
"""Names in brackets that are headers, whoever closes them."""

_OPEN_AT_END = re.compile(r"(<[^<>/\s|]+>|\[[^\[\]/\s|]+\])\s*$")
_CLOSE_AT_END = re.compile(r"(</[^<>/\s|]+>|\[/[^\[\]/\s|]+\])\s*$")


def unknown_tags(prompt: str) -> list[Tags]:
    """The pair at the end of `prompt` that may be think tags though no list has them; a role is none."""
    pairs = [Tags(found[1], f"{found[1][0]}/{found[1][1:]}") for found in [_OPEN_AT_END.search(prompt)] if found]
    pairs += [Tags(found[1].replace("/", "", 1), found[1]) for found in [_CLOSE_AT_END.search(prompt)] if found]
    return [pair for pair in pairs if pair not in KNOWN and pair.open[1:-1].casefold() not in ROLES]

"""Rendering conversations with a tokenizer's chat template; whatever a template raises is one sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from presafe.errors import user_error

if TYPE_CHECKING:  # it imports torch, which who only deploys a model does not need
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, Any]
RAISED = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a template's code may end in: jinja's own errors, and those of the Python values that it works on."""


@dataclass(frozen=True)
class Rendering:
    """One way to render a conversation: arguments of the template, and a text that the system message ends in."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    system: str = ""

    def text(self, tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], *, generate: bool = True) -> str:
        """The rendered conversation; with `generate`, up to where the assistant begins. Raises UserError."""
        try:
            text = tokenizer.apply_chat_template(
                self._conversation(messages), tokenize=False, add_generation_prompt=generate, **self.arguments
            )
        except RAISED as error:
            told = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise user_error(
                found=f"a chat template that fails ({tokenizer.name_or_path}): {told}",
                needed="one that renders a conversation",
                change="mend the template, or take another model or conversation",
            ) from error
        assert isinstance(text, str)
        return text

    def _conversation(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        conversation = [dict(message) for message in messages]
        if self.system and conversation[0]["role"] == "system":
            conversation[0]["content"] += f"\n{self.system}"
        elif self.system:
            conversation.insert(0, {"role": "system", "content": self.system})
        return conversation


@dataclass(frozen=True)
class Switch:
    """What turns a template's thinking on and off, by name."""

    name: str
    on: Rendering
    off: Rendering

    @property
    def argument(self) -> bool:
        """Whether it is an argument of the template, not a text, which might change the prompt for another reason."""
        return not self.off.system


def _argument(name: str, on: Any, off: Any) -> Switch:
    return Switch(f"{name}={off}", Rendering({name: on}), Rendering({name: off}))


SWITCHES = (
    _argument("enable_thinking", True, False),
    _argument("thinking", True, False),
    _argument("reasoning_effort", "high", "none"),
    _argument("reasoning_effort", "high", "no_think"),
    _argument("thinking_mode", "on", "off"),
    Switch("/no_think in the system message", Rendering(), Rendering(system="/no_think")),
    Switch("/nothink in the system message", Rendering(), Rendering(system="/nothink")),
)
"""In the order in which they are tried."""
NO_SWITCH = Switch("none", Rendering(), Rendering())
SOFT_SWITCHES = ("/no_think", "/nothink", "/think")
"""Texts of a message that some templates take for a switch."""

"""Further decodings of section `evaluate`: how figures move with temperature and top-p."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from presafe.config.generation import Decoding
from presafe.config.settings import Settings
from presafe.records import DecisionMode, Kind


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


ONE_OR_SEVERAL = BeforeValidator(_listed, json_schema_input_type=float | list[float])


@dataclass(frozen=True)
class NamedDecoding:
    """One further decoding. `name` is what it is, in the ids of its tasks, in records and in the report."""

    name: str
    decoding: Decoding
    decision: DecisionMode
    samples: int
    kinds: Sequence[Kind]

    def samples_of(self, kind: Kind) -> int:
        """Answers to each prompt of a kind."""
        return self.samples if kind in self.kinds else 0


class DecodingGrid(Settings):
    """Every temperature with every top-p."""

    temperature: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1), ONE_OR_SEVERAL]
    """One temperature or several. 0 is greedy: top-p and samples change nothing there, and it is asked once."""
    top_p: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1), ONE_OR_SEVERAL] = [1.0]
    """One nucleus of sampling or several."""
    decision: DecisionMode = "drawn"
    """How the tokens up to the path are decoded with chain-of-thought on: `drawn` like all others, or `greedy` as the
    endpoint does, which leaves what is refused before the first thought as it is."""
    samples: int = Field(4, ge=1)
    """Answers a prompt: k of the mean of k, and of any of k."""
    kinds: list[Kind] = ["harmful", "benign"]
    """Kinds of prompts that are asked, as they are and under each attack of their kind."""

    def named(self, max_new_tokens: int) -> Iterator[NamedDecoding]:
        """Its decodings; answers are as long as those of `evaluate.decoding` at most."""
        if 0 in self.temperature:
            greedy = Decoding(temperature=0, top_p=1, max_new_tokens=max_new_tokens)
            yield NamedDecoding("t0", greedy, "greedy", 1, self.kinds)
        for temperature, top_p in itertools.product((t for t in self.temperature if t > 0), self.top_p):
            drawn = Decoding(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
            name = f"t{temperature:g}-p{top_p:g}-{self.decision}"
            yield NamedDecoding(name, drawn, self.decision, self.samples, self.kinds)

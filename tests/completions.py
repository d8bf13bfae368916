"""Completions that tests push token by token: what reads them, and what came out."""

from presafe.config import PrefixSettings
from presafe.decision.events import Decided, Event, Finished
from presafe.decision.refusal import RefusalReader
from presafe.decision.rule import GateRule
from presafe.decision.text import Text
from presafe.engines.exported import LoadedModel
from presafe.engines.streaming import Sampling
from presafe.judges.prefixes import prefix_judge
from tiny_reasoner import GATE_REFUSAL, THRESHOLD

GREEDY = Sampling(max_tokens=300, temperature=0, top_p=1)
WILD = Sampling(max_tokens=60, temperature=2, top_p=1)
OFF = GateRule("off", THRESHOLD, "refusal")
JUDGE = prefix_judge(PrefixSettings())
READER, WITHOUT_A_CARD = RefusalReader(JUDGE, GATE_REFUSAL), RefusalReader(JUDGE, "")


def parts(events: list[Event]) -> tuple[Decided, str, str, Finished]:
    """Decision, reasoning, answer and end of one completion."""
    decided, *texts, finished = events
    assert isinstance(decided, Decided)
    assert isinstance(finished, Finished)
    assert all(isinstance(text, Text) and text.text for text in texts)
    text = {"reasoning": "", "answer": ""}
    for each in texts:
        assert isinstance(each, Text)
        text["reasoning" if each.channel == "reasoning" else "answer"] += each.text
    return decided, text["reasoning"], text["answer"], finished


def encode(loaded: LoadedModel, text: str) -> list[int]:
    ids: list[int] = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids

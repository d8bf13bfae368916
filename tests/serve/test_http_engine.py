"""The HTTP engine on this project's own endpoint, beside the transformers engine on the same model."""

from typing import Any

import pytest

from presafe.config import Decoding, HttpSettings, TransformersSettings
from presafe.engines.engine import Query
from presafe.engines.exported import LoadedModel
from presafe.engines.http_engine import HttpEngine
from presafe.engines.transformers_engine import TransformersEngine
from tiny_reasoner import ANSWER, BENIGN, ENDLESS, HARMFUL, REASONING, REFUSAL

GREEDY = Decoding(temperature=0, max_new_tokens=120)


@pytest.fixture
def engine(served: Any) -> HttpEngine:
    # The endpoint has no switch for chain-of-thought: its model, or its gate, decides.
    settings = HttpSettings(kind="http", base_url=f"{served.url}/v1", model="presafe", cot_off={})
    return HttpEngine(settings, num_workers=1)


def test_greedy_answers_are_those_of_the_transformers_engine(engine: HttpEngine, loaded: LoadedModel) -> None:
    queries = [Query(text, "on") for text in (HARMFUL, BENIGN, ENDLESS)]
    local = TransformersEngine(loaded, TransformersSettings()).generate(queries, GREEDY, 0)
    harmful, benign, endless = engine.generate(queries, GREEDY, 0)
    assert (harmful.reasoning, harmful.answer, harmful.finish_reason) == ("", REFUSAL, "stop")
    assert (benign.reasoning, benign.answer, benign.finish_reason) == (REASONING, ANSWER, "stop")
    assert [c.answer for c in (harmful, benign)] == [c.answer for c in local[:2]]
    assert [c.num_tokens for c in (benign, endless)] == [c.num_tokens for c in local[1:]]
    assert (endless.reasoning, endless.finish_reason) == (local[2].reasoning, "length")


def test_a_decided_answer_ends_the_generation(engine: HttpEngine, served: Any) -> None:
    long = Decoding(temperature=0, max_new_tokens=5000)
    query = Query(BENIGN, "on", stop_early=True)
    (decided,) = engine.generate([query], long, 0, lambda beginning: beginning.startswith("The answer"))
    assert (decided.reasoning, decided.finish_reason) == (REASONING, "decided")
    assert ANSWER.startswith(decided.answer)
    assert decided.answer != ANSWER
    served.wait_until(lambda health: health["ongoing"] == 0)

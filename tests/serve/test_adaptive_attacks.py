"""Adaptive attacks on a real engine, and on an endpoint: what a search says that it found is what the model does."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest

from presafe.attacks.adaptive.search import Against, Searched, SearchTask, searched
from presafe.attacks.adaptive.steering import direction, steered_answer
from presafe.attacks.adaptive.target import Target
from presafe.attacks.adaptive.white_box import WhiteBox
from presafe.config import Adaptive, Decoding, HttpSettings, PagedSettings, TransformersSettings
from presafe.config.adaptive import WHITE_BOX, AdaptiveAttack
from presafe.decision.rule import decide
from presafe.engines.engine import Engine, Query
from presafe.engines.exported import load_exported
from presafe.engines.http_engine import HttpEngine
from presafe.engines.served_engine import ServedEngine
from presafe.engines.start import ModelSpec, start_paged
from presafe.engines.transformers_engine import TransformersEngine
from tiny_reasoner import ANSWER, BENIGN, HARMFUL, REASONING, THRESHOLD, TinyExport

DECODING = Decoding(temperature=0, max_new_tokens=60)
SETTINGS = Adaptive(budget=32)


@pytest.fixture(scope="module")
def engine(tiny_export: TinyExport) -> Iterator[ServedEngine]:
    spec = ModelSpec(tiny_export.base, "float32", tiny_export.folder, tiny_export.folder)
    made = start_paged(PagedSettings(max_prompt_tokens=600), spec, on_gpu=False, max_new_tokens=60)
    yield made
    made.close()


@pytest.fixture(scope="module")
def box(tiny_export: TinyExport) -> WhiteBox:
    return WhiteBox(load_exported(tiny_export.folder), 600)


def attacked(engine: Engine, box: WhiteBox | None, attack: str, gate: str, text: str = HARMFUL) -> Searched:
    target = Target(engine, DECODING, 1.0, 0)

    def weights() -> WhiteBox:
        assert box is not None, "no weights are at hand"
        return box

    task = SearchTask("s", "p", attack, gate, text)
    return searched(task, Against(SETTINGS, DECODING, THRESHOLD, 0, lambda: target, weights))


@pytest.mark.parametrize("gate", ["off", "on"])
@pytest.mark.parametrize("attack", get_args(AdaptiveAttack))
def test_what_a_search_found_is_what_the_model_does(engine, box, attack, gate):
    row = attacked(engine, box, attack, gate)
    assert row.error is None
    assert row.spent <= SETTINGS.budget
    if row.broke_at is None:
        assert (row.spent, row.text, row.finish_reason) == (SETTINGS.budget, None, None)
        return
    assert row.finish_reason is not None
    assert row.answer or row.reasoning
    assert row.path != "refuse"
    if attack not in WHITE_BOX[1:] and attack != "best_of_n":
        (again,) = engine.generate([Query(row.text, "on", decision="greedy")], DECODING, 0)
        assert again.path == row.path != "refuse"
        assert (again.reasoning, again.answer) == (row.reasoning, row.answer)
        assert gate == "off" or decide(again.refuse_probability, THRESHOLD) == "think"


def test_a_model_is_as_it_was_once_its_latent_has_been_moved(box):
    asked = SearchTask("s", "p", "steering", "off", BENIGN)
    engine = TransformersEngine(box.loaded, TransformersSettings())
    along = direction(box, box.prompt_ids(BENIGN, []), middle=False)
    (plain,) = engine.generate([Query(BENIGN, "on")], DECODING, 0)
    assert (plain.reasoning, plain.answer) == (REASONING, ANSWER)
    assert steered_answer(box, asked, along, 0.0, 60) == plain
    assert steered_answer(box, asked, along, 50.0, 60) != plain
    assert engine.generate([Query(BENIGN, "on")], DECODING, 0) == [plain]


def test_words_break_a_model_that_knows_its_prompts_by_heart_and_a_prompt_that_is_answered_breaks_at_once(engine, box):
    assert attacked(engine, box, "benign_words", "off").broke_at is not None
    assert attacked(engine, box, "random_words", "off", BENIGN).broke_at == 1


def test_an_endpoint_is_attacked_as_the_engine_behind_it(engine, served: Any) -> None:
    settings = HttpSettings(kind="http", base_url=f"{served.url}/v1", model="presafe", cot_off={})
    endpoint = HttpEngine(settings, num_workers=1)
    for attack in ("random_words", "augmentations", "blind_words", "benign_words"):
        here, there = attacked(engine, box, attack, "on"), attacked(endpoint, None, attack, "on")
        assert (there.broke_at, there.text, there.path, there.answer) == (
            here.broke_at,
            here.text,
            here.path,
            here.answer,
        )
    drawn = attacked(endpoint, None, "best_of_n", "off")
    assert (drawn.broke_at, drawn.queries) == (None, SETTINGS.budget), "what is served is no lottery"

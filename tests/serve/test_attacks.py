"""`make bench-attacks` against an endpoint."""

import asyncio

import pytest

from benchmarks.serve_attacks import asked
from benchmarks.surroundings import FORGED, MISJUDGED, Exchange, Material, drawn_around
from presafe.errors import UserError
from tiny_reasoner import ANSWER, BENIGN, HARMFUL, REASONING

AROUND = drawn_around(
    "a key", Material([Exchange(BENIGN, REASONING, ANSWER)] * 2, [BENIGN], "<think>", "</think>", ["<|im_end|>"])
)
PROMPTS = [(HARMFUL, AROUND), (BENIGN, AROUND)]


def test_prompts_are_asked_in_every_surrounding_and_their_decisions_read(served):
    stream, options = (next(s for s in FORGED if key in s.options) for key in ("stream", "n"))
    found = asyncio.run(asked(served.url, PROMPTS, [MISJUDGED[0], FORGED[0], stream, options], 64))
    assert found.keys() == {MISJUDGED[0].name, FORGED[0].name, stream.name, options.name}
    for outcomes in found.values():
        assert [(outcome.path, outcome.gate_path) for outcome in outcomes] == [("refuse", None), ("think", None)]
    assert [outcome.answered for outcome in found[MISJUDGED[0].name]] == [False, True]


def test_a_gate_that_is_on_hides_the_models_path_and_is_no_endpoint_to_measure(served):
    with pytest.raises(UserError, match="gate=shadow"):
        asyncio.run(asked(served.gated_url, PROMPTS[:1], MISJUDGED[:1], 8))

"""A refusal of the gate's, with OpenAI's field for it and without (`refusal_field`): what each client makes of it."""

import pytest

from clients.endpoint import Endpoint, user
from clients.node_scripts import needs_node, said

pytest.importorskip("pydantic_ai", reason="pydantic-ai is not installed: make test-clients")

from pydantic_ai.exceptions import ContentFilterError

from clients.agents import agent

with_field = pytest.mark.parametrize("gated", [True], indirect=True, ids=["with the field"])
without_field = pytest.mark.parametrize("gated", [False], indirect=True, ids=["without the field"])
whole_and_streamed = pytest.mark.parametrize("ask", ["chat", "stream"])


@with_field
def test_openai_has_it_in_both_fields(gated: Endpoint) -> None:
    refusal = gated.facts.gate_refusal
    request = {"model": "presafe", "messages": user(gated.facts.harmful)}
    message = gated.client().chat.completions.create(**request).choices[0].message
    assert (message.content, message.refusal) == (refusal, refusal)
    with gated.client().chat.completions.stream(**request) as stream:
        message = stream.get_final_completion().choices[0].message
    assert (message.content, message.refusal) == (refusal, refusal)


@with_field
@needs_node
def test_openai_for_node_has_it_in_both_fields(gated: Endpoint) -> None:
    reply = said("openai", "chat", gated, gated.facts.harmful)
    assert reply["answer"] == reply["refusal"] == gated.facts.gate_refusal


@with_field
@needs_node
@whole_and_streamed
def test_the_ai_sdk_shows_it_twice(gated: Endpoint, ask: str) -> None:
    assert said("ai_sdk", ask, gated, gated.facts.harmful)["answer"] == gated.facts.gate_refusal * 2


@with_field
def test_pydantic_ai_raises_its_error(gated: Endpoint) -> None:
    with pytest.raises(ContentFilterError, match=gated.facts.gate_refusal):
        agent(gated).run_sync(gated.facts.harmful)


@without_field
def test_openai_has_it_in_content(gated: Endpoint) -> None:
    reply = gated.client().chat.completions.create(model="presafe", messages=user(gated.facts.harmful))
    assert (reply.choices[0].message.content, reply.choices[0].message.refusal) == (gated.facts.gate_refusal, None)


@without_field
@needs_node
@whole_and_streamed
def test_the_ai_sdk_shows_it_once(gated: Endpoint, ask: str) -> None:
    assert said("ai_sdk", ask, gated, gated.facts.harmful)["answer"] == gated.facts.gate_refusal


@without_field
def test_pydantic_ai_answers_with_it(gated: Endpoint) -> None:
    assert agent(gated).run_sync(gated.facts.harmful).output == gated.facts.gate_refusal

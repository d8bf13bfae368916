"""pydantic-ai's agent against `presafe serve`; a refusal of the gate's: test_gate.py."""

import asyncio

import pytest

from clients.endpoint import Endpoint, too_long

pytest.importorskip("pydantic_ai", reason="pydantic-ai is not installed: make test-clients")

from pydantic_ai import ModelHTTPError
from pydantic_ai.direct import model_request_sync
from pydantic_ai.messages import ModelRequest, ThinkingPart

from clients.agents import agent


def test_run(endpoint: Endpoint) -> None:
    result = agent(endpoint).run_sync(endpoint.facts.benign)
    assert result.output == endpoint.facts.answer
    (thought,) = [part.content for part in result.response.parts if isinstance(part, ThinkingPart)]
    assert thought == endpoint.facts.reasoning


def test_run_stream(endpoint: Endpoint) -> None:
    async def ask() -> list[str]:
        async with agent(endpoint).run_stream(endpoint.facts.benign) as result:
            return [text async for text in result.stream_text(delta=True, debounce_by=None)]

    pieces = asyncio.run(ask())
    assert len(pieces) > 1
    assert "".join(pieces) == endpoint.facts.answer


def test_a_refusal_of_the_models_is_an_answer(endpoint: Endpoint) -> None:
    assert agent(endpoint).run_sync(endpoint.facts.harmful).output == endpoint.facts.refusal


def test_a_second_turn(endpoint: Endpoint) -> None:
    first = agent(endpoint).run_sync(endpoint.facts.benign)
    turns = [*first.new_messages(), ModelRequest.user_text_prompt(endpoint.facts.benign)]
    second = model_request_sync(agent(endpoint).model, turns, model_settings={"max_tokens": 50})
    assert second.usage.input_tokens > first.usage.input_tokens


def test_errors_are_its_own(endpoint: Endpoint) -> None:
    with pytest.raises(ModelHTTPError, match="context_length_exceeded") as raised:
        agent(endpoint).run_sync(too_long())
    assert raised.value.status_code == 400
    with pytest.raises(ModelHTTPError) as raised:
        agent(endpoint, "another").run_sync(endpoint.facts.benign)
    assert raised.value.status_code == 404

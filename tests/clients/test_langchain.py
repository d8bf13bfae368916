"""LangChain's chat model for OpenAI against `presafe serve`."""

from typing import Any

import pytest

from clients.endpoint import Endpoint, too_long

pytest.importorskip("langchain_openai", reason="LangChain is not installed: make test-clients")

import openai
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI


def model(endpoint: Endpoint, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(model="presafe", base_url=f"{endpoint.url}/v1", api_key="none", max_retries=0, **options)


def test_invoke(endpoint: Endpoint) -> None:
    reply = model(endpoint, temperature=0).invoke(endpoint.facts.benign)
    assert reply.content == endpoint.facts.answer
    usage = reply.usage_metadata
    assert 0 < usage["output_token_details"]["reasoning"] < usage["output_tokens"]
    # ChatOpenAI takes no `reasoning_content` over: it leaves what is not OpenAI's to subclasses of providers.
    assert "reasoning_content" not in reply.additional_kwargs


def test_the_headers_of_the_decision_reach_the_caller(endpoint: Endpoint) -> None:
    reply = model(endpoint, include_response_headers=True).invoke(endpoint.facts.harmful)
    assert reply.content == endpoint.facts.refusal
    assert reply.response_metadata["headers"]["x-presafe-path"] == "refuse"


def test_stream(endpoint: Endpoint) -> None:
    chunks = list(model(endpoint, temperature=0, stream_usage=True).stream(endpoint.facts.benign))
    assert "".join(chunk.content for chunk in chunks) == endpoint.facts.answer
    (usage,) = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert usage["output_token_details"]["reasoning"] > 0


def test_batch(endpoint: Endpoint) -> None:
    facts = endpoint.facts
    replies = model(endpoint, temperature=0).batch([facts.benign, facts.harmful] * 3, {"max_concurrency": 3})
    assert [reply.content for reply in replies] == [facts.answer, facts.refusal] * 3


def test_stop(endpoint: Endpoint) -> None:
    facts = endpoint.facts
    before, found, _ = facts.answer.partition("five")
    assert found
    for stop in (["five"], ["never said", "five"]):
        assert model(endpoint, temperature=0).invoke(facts.benign, stop=stop).content == before.strip()
        assert model(endpoint, temperature=0).invoke(facts.harmful, stop=["sorry"]).content == facts.refusal
    assert model(endpoint, temperature=0).invoke(facts.benign, stop=[]).content == facts.answer


def test_errors_are_its_own(endpoint: Endpoint) -> None:
    with pytest.raises(ContextOverflowError):
        model(endpoint).invoke(too_long())
    with pytest.raises(ContextOverflowError):
        next(model(endpoint).stream(too_long()))
    with pytest.raises(openai.NotFoundError):
        ChatOpenAI(model="another", base_url=f"{endpoint.url}/v1", api_key="none").invoke("Who are you?")


def test_several_answers(endpoint: Endpoint) -> None:
    asked = model(endpoint, n=3, temperature=1, seed=5).generate([[HumanMessage(endpoint.facts.benign)]])
    assert len(asked.generations[0]) == 3
    assert all(answer.message.content for answer in asked.generations[0])


def test_a_conversation_with_the_models_own_answer(endpoint: Endpoint) -> None:
    asked = model(endpoint, temperature=0, max_tokens=200)
    turns = [SystemMessage("Answer shortly."), HumanMessage(endpoint.facts.benign)]
    first = asked.invoke(turns)
    assert isinstance(first, AIMessage)
    if not first.content:
        first = AIMessage("five")
    second = asked.invoke([*turns, first, HumanMessage([{"type": "text", "text": endpoint.facts.benign}])])
    assert second.usage_metadata["input_tokens"] > first_tokens(asked, turns)


def first_tokens(asked: ChatOpenAI, turns: list[Any]) -> int:
    usage = asked.invoke(turns).usage_metadata
    assert usage is not None
    return usage["input_tokens"]

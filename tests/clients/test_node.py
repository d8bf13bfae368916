"""OpenAI's client for Node and the AI SDK against `presafe serve`."""

import pytest

from clients.endpoint import MAX_NEW_TOKENS, Endpoint, too_long
from clients.node_scripts import needs_node, said

pytestmark = needs_node
clients = pytest.mark.parametrize("client", ["openai", "ai_sdk"])


@clients
@pytest.mark.parametrize("ask", ["chat", "stream"])
def test_reasoning_and_answer(endpoint: Endpoint, client: str, ask: str) -> None:
    reply = said(client, ask, endpoint, endpoint.facts.benign)
    assert (reply["reasoning"], reply["answer"]) == (endpoint.facts.reasoning, endpoint.facts.answer)


@clients
@pytest.mark.parametrize("ask", ["chat", "stream"])
def test_a_refusal_of_the_models_is_an_answer(endpoint: Endpoint, client: str, ask: str) -> None:
    reply = said(client, ask, endpoint, endpoint.facts.harmful)
    assert (reply["reasoning"], reply["answer"]) == ("", endpoint.facts.refusal)


@pytest.mark.parametrize(("client", "error"), [("openai", "BadRequestError"), ("ai_sdk", "APICallError")])
@pytest.mark.parametrize("ask", ["chat", "stream"])
def test_a_context_too_long_is_the_clients_own_error(endpoint: Endpoint, client: str, error: str, ask: str) -> None:
    failed = said(client, ask, endpoint, too_long())
    assert (failed["error"], failed["status"]) == (error, 400)
    assert "context_length_exceeded" in failed["message"]


@pytest.mark.parametrize(("client", "error"), [("openai", "NotFoundError"), ("ai_sdk", "APICallError")])
@pytest.mark.parametrize("ask", ["chat", "stream"])
def test_another_model_is_the_clients_own_error(endpoint: Endpoint, client: str, error: str, ask: str) -> None:
    failed = said(client, ask, endpoint, endpoint.facts.benign, "another")
    assert (failed["error"], failed["status"]) == (error, 404)


@clients
def test_an_abort_stops_the_generation(endpoint: Endpoint, client: str) -> None:
    before = endpoint.wait_until(lambda health: health["ongoing"] == 0)
    after = said(client, "abort", endpoint, endpoint.facts.endless)
    assert after["aborted"]
    assert 0 < after["generated_tokens"] - before["generated_tokens"] < MAX_NEW_TOKENS

"""LiteLLM as a client of `presafe serve`; its proxy: test_litellm_proxy.py."""

import os
from typing import Any

import pytest

from clients.endpoint import Endpoint, too_long, user

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it is looked for on the network when LiteLLM is imported
pytest.importorskip("litellm", reason="LiteLLM is not installed: make test-clients")

import litellm


def complete(endpoint: Endpoint, prompt: str, model: str = "presafe", **options: Any) -> Any:
    return litellm.completion(
        model=f"openai/{model}",
        api_base=f"{endpoint.url}/v1",
        api_key="none",
        messages=user(prompt),
        temperature=0,
        max_retries=0,
        **options,
    )


def test_completion(endpoint: Endpoint) -> None:
    message = complete(endpoint, endpoint.facts.benign).choices[0].message
    assert (message.reasoning_content, message.content) == (endpoint.facts.reasoning, endpoint.facts.answer)


def test_stream(endpoint: Endpoint) -> None:
    deltas = [chunk.choices[0].delta for chunk in complete(endpoint, endpoint.facts.benign, stream=True)]
    assert "".join(delta.content or "" for delta in deltas) == endpoint.facts.answer
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == endpoint.facts.reasoning


@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_its_own(endpoint: Endpoint, stream: bool) -> None:
    with pytest.raises(litellm.ContextWindowExceededError):
        complete(endpoint, too_long(), stream=stream)
    with pytest.raises(litellm.NotFoundError):
        complete(endpoint, endpoint.facts.benign, "another", stream=stream)
    with pytest.raises(litellm.BadRequestError, match="top_p"):
        complete(endpoint, endpoint.facts.benign, top_p=2, stream=stream)

"""OpenAI's client behind LiteLLM's proxy, which asks `presafe serve`."""

import json
import secrets
from collections.abc import Iterator

import openai
import pytest

from clients.endpoint import ROOT, Endpoint, too_long, user
from clients.process import free_port, running

PROXY = ROOT / ".venv-litellm" / "bin" / "litellm"

pytestmark = pytest.mark.skipif(not PROXY.exists(), reason="LiteLLM's proxy is not installed: make test-clients")


@pytest.fixture(scope="module")
def proxied(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    folder = tmp_path_factory.mktemp("proxy")
    asked = {"model": "openai/presafe", "api_base": f"{endpoint.url}/v1", "api_key": "none"}
    config = folder / "config.yaml"  # JSON is YAML, too
    config.write_text(json.dumps({"model_list": [{"model_name": "presafe", "litellm_params": asked}]}))
    key = f"sk-{secrets.token_hex(32)}"  # it starts with none that is weak
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [str(PROXY), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with running(command, f"{url}/health/liveliness", folder / "log", LITELLM_MASTER_KEY=key, **offline):
        yield Endpoint(url, endpoint.facts).client(api_key=key)


def test_a_completion_comes_through_unchanged(proxied: openai.OpenAI, endpoint: Endpoint) -> None:
    request = {"model": "presafe", "messages": user(endpoint.facts.benign), "temperature": 0}
    message = proxied.chat.completions.create(**request).choices[0].message
    assert (message.reasoning_content, message.content) == (endpoint.facts.reasoning, endpoint.facts.answer)


def test_a_stream_comes_through_unchanged(proxied: openai.OpenAI, endpoint: Endpoint) -> None:
    stream = proxied.chat.completions.create(
        model="presafe", messages=user(endpoint.facts.benign), temperature=0, stream=True
    )
    deltas = [choice.delta for chunk in stream for choice in chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == endpoint.facts.answer
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == endpoint.facts.reasoning


@pytest.mark.parametrize("stream", [False, True])
def test_a_400_stays_a_400(proxied: openai.OpenAI, endpoint: Endpoint, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        proxied.chat.completions.create(model="presafe", messages=user(too_long()), stream=stream)
    with pytest.raises(openai.BadRequestError, match="top_p"):
        proxied.chat.completions.create(model="presafe", messages=user(endpoint.facts.benign), top_p=2, stream=stream)

"""pydantic-ai's agent, asking an endpoint."""

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from clients.endpoint import Endpoint


def agent(endpoint: Endpoint, model: str = "presafe") -> Agent:
    provider = OpenAIProvider(openai_client=endpoint.async_client())
    return Agent(OpenAIChatModel(model, provider=provider, settings={"temperature": 0}))

"""The endpoint that the clients ask, and what its tiny model says."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv" / "bin"
"""The project's own environment: the clients' has neither Ray nor torch."""
DEADLINE_S = 60.0
MAX_ONGOING, MAX_NEW_TOKENS, MAX_PROMPT_TOKENS = 32, 8000, 600
"""Of `endpoint`."""
FUZZED_NEW_TOKENS, FUZZED_PROMPT_TOKENS = 24, 200
"""Of `fuzzed`."""


@dataclass(frozen=True)
class Facts:
    """Prompts the model was overfitted on, and what it says to them; `folder` is its export."""

    folder: str
    harmful: str
    benign: str
    endless: str
    reasoning: str
    answer: str
    refusal: str
    gate_refusal: str


def make_facts(folder: Path) -> Facts:
    """Export the tiny model into `folder`, unless one is there."""
    written = folder / "facts.json"
    if not written.exists():
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [BIN / "python", Path(__file__).with_name("export_tiny.py"), folder]
        subprocess.run(command, env=environment, check=True)
    return Facts(**json.loads(written.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Endpoint:
    """One replica behind `url`."""

    url: str
    facts: Facts

    @property
    def chat_url(self) -> str:
        return f"{self.url}/v1/chat/completions"

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=f"{self.url}/v1", **{"api_key": "none", "max_retries": 0, "timeout": 60, **options}
        )

    def async_client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)

    def health(self) -> dict[str, Any]:
        body: dict[str, Any] = httpx.get(f"{self.url}/health", timeout=30).raise_for_status().json()
        return body

    def started(self) -> int:
        """When the replica was made, in seconds: another one would say another time."""
        created: int = httpx.get(f"{self.url}/v1/models", timeout=30).raise_for_status().json()["data"][0]["created"]
        return created

    def wait_until(self, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first health that is as it should be."""
        end = time.monotonic() + DEADLINE_S
        while not reached(health := self.health()):
            assert time.monotonic() < end, f"still {health}"
            time.sleep(0.01)
        return health


def too_long() -> str:
    """A prompt of more tokens than `endpoint` reads."""
    return "word " * MAX_PROMPT_TOKENS


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]

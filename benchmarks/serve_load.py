"""Servers as processes of their own, and a load of streaming clients on them."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import openai
import psutil

BIN = Path(sys.executable).parent
START_SECONDS = 600


@dataclass(frozen=True)
class Server:
    """`busy` are its processes that work for requests."""

    url: str
    model: str
    busy: tuple[psutil.Process, ...]

    def cpu_seconds(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self.busy)


@dataclass(frozen=True)
class Load:
    """Every prompt once, so many at a time, with so many tokens in answer."""

    prompts: Sequence[str]
    concurrent: int
    new_tokens: int


@dataclass(frozen=True)
class Answered:
    """What a load took. Seconds are of each request: to its first token, and whole."""

    first_token: Sequence[float]
    seconds: Sequence[float]
    wall_seconds: float
    cpu_seconds: float
    tokens: int

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.wall_seconds

    @property
    def first_token_p95(self) -> float:
        return float(np.percentile(self.first_token, 95))


def run_load(server: Server, load: Load) -> Answered:
    return asyncio.run(_run(server, load))


async def _run(server: Server, load: Load) -> Answered:
    free = asyncio.Semaphore(load.concurrent)
    first_token, seconds = [], []

    async def ask(client: openai.AsyncOpenAI, prompt: str) -> None:
        async with free:
            begin, first = time.monotonic(), None
            stream = await client.chat.completions.create(
                model=server.model,
                messages=[{"role": "user", "content": prompt}],
                max_tokens=load.new_tokens,
                temperature=0,
                stream=True,
            )
            async for chunk in stream:
                delta = chunk.choices[0].delta if chunk.choices else None
                text = "" if delta is None else (delta.content or getattr(delta, "reasoning_content", None) or "")
                if first is None and text.strip():  # transformers serve sends the prompt's last line break at once
                    first = time.monotonic() - begin
            assert first is not None
            first_token.append(first)
            seconds.append(time.monotonic() - begin)

    cpu, wall = server.cpu_seconds(), time.monotonic()
    options = {"base_url": f"{server.url}/v1", "api_key": "none"}
    async with openai.AsyncOpenAI(**options, max_retries=0, timeout=600) as client:
        await asyncio.gather(*(ask(client, prompt) for prompt in load.prompts))
    wall = time.monotonic() - wall
    tokens = len(load.prompts) * load.new_tokens
    return Answered(first_token, seconds, wall, server.cpu_seconds() - cpu, tokens)


@contextmanager
def presafe_server(model: str, *, gate: str, threshold: float, **settings: object) -> Iterator[Server]:
    """`presafe serve`, as a user starts it; with its other settings, by their dotted names."""
    port = _free_port()
    options = {"port": port, "gate": gate, "threshold": threshold, "max_prompt_tokens": 1024, "max_new_tokens": 512}
    named = [f"{name}={value}" for name, value in {**options, **settings}.items()]
    command = [sys.executable, "-m", "presafe", "serve", model, *named]
    with _process(command, f"http://127.0.0.1:{port}/ready") as process:
        names = ("ray::ServeReplica", "ray::ProxyActor")
        found = [child for child in process.children(recursive=True) if _title(child).startswith(names)]
        assert len(found) == len(names), [_title(child) for child in process.children(recursive=True)]
        busy = {p for child in found for p in (child, *child.children(recursive=True))}
        yield Server(f"http://127.0.0.1:{port}", "presafe", tuple(busy))


@contextmanager
def transformers_server(model: str) -> Iterator[Server]:
    """`transformers serve` with continuous batching and our cache, batch and dtype."""
    port, folder = _free_port(), f"{model}/full"
    command = [str(BIN / "transformers"), "serve", folder, "--port", str(port), "--continuous-batching"]
    command += ["--cb-block-size", "32", "--cb-num-blocks", "512", "--cb-max-batch-tokens", "512"]
    command += ["--dtype", "float32", "--device", "cpu"]
    with _process(command, f"http://127.0.0.1:{port}/health") as process:
        yield Server(f"http://127.0.0.1:{port}", folder, (process,))


@contextmanager
def vllm_server(folder: str, options: Sequence[str]) -> Iterator[Server]:
    """What `vllm serve` runs, with these of its options; the command itself does not start in the CPU's package."""
    port = _free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", folder]
    command += ["--port", str(port), "--host", "127.0.0.1", *options]
    with _process(command, f"http://127.0.0.1:{port}/health") as process:
        yield Server(f"http://127.0.0.1:{port}", folder, (process, *process.children(recursive=True)))


@contextmanager
def _process(command: list[str], ready: str) -> Iterator[psutil.Process]:
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL) as started:
        try:
            _wait(started, ready)
            yield psutil.Process(started.pid)
        finally:
            started.terminate()
            started.wait(timeout=60)


def _wait(process: "subprocess.Popen[bytes]", url: str) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, "the server ended"
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"{url} did not answer in {START_SECONDS} s")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def _title(process: psutil.Process) -> str:
    return " ".join(process.cmdline())

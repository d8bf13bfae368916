"""Launching and stopping: what is wrong is said before anything starts, and what runs is let end."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from presafe.config import load_serve
from presafe.errors import UserError
from serve.app import Endpoint, build
from serve.arguments import ServeArgs
from serve.deployment.checks import check, check_address
from serve.operations.key_command import issue_key
from serve_process import ServeProcess, serving
from tiny_reasoner import ENDLESS, TinyExport, user

CONFIG = Path(__file__).parents[2] / "serve" / "config.yaml"
STREAMS, STREAM_TOKENS = 16, 400
STOP_S = 10.0
"""Longest time from the last stream's end to the process's."""


def test_a_taken_port_is_a_user_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"found the address 127.0.0.1:{port}.*needed a free one.*serve.port"):
            check_address("127.0.0.1", port)


def test_a_missing_model_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no exported model"):
        build({"model": str(tmp_path)})


def test_an_unknown_argument_is_an_error(tiny_export: TinyExport) -> None:
    with pytest.raises(ValueError, match="treshold"):
        build({"model": tiny_export.folder, "treshold": 0.1})


def test_the_deployment_file_is_valid() -> None:
    config = ServeDeploySchema.model_validate(yaml.safe_load(CONFIG.read_text()))
    application = config.applications[0]
    assert application.import_path == "serve.app:build"
    assert ServeArgs.model_validate(application.args).gate == "off"
    assert [deployment.name for deployment in application.deployments] == [Endpoint.name]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with files that are none of what settings name."""
    (tmp_path / "log.jsonl").write_text('{"refuse_probability": \n')
    (tmp_path / "short").write_text("short")
    (tmp_path / "keys.yaml").write_text("keys: [\n")
    (tmp_path / "file").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("gat=on", r"gat: unknown key, did you mean gate\?"),
        ("batching.page_sise=4", r"batching\.page_sise: unknown key, did you mean page_size\?"),
        ("gate=maybe", r"gate: .*'off', 'on' or 'shadow'"),
        ("port=none", r"port: .*integer"),
        ("host=192.0.2.1", r"found the address 192\.0\.2\.1:8000"),
        ("host=no.such.host.invalid", r"found the address no\.such\.host\.invalid:8000"),
        ("engine=vllm", r"found engine=vllm without the package vllm"),
        ("batching.kv_cache_tokens=100", r"found batching\.kv_cache_tokens=100; needed at least"),
        ("drift.reference={files}/log.jsonl", r"the drift reference .*holds no decision"),
        ("drift.reference={files}/none.json", r"the drift reference .*is not there"),
        ("audit.folder={files}/file", r"audit\.folder=.*takes no file"),
        ("log_folder={files}/file/below", r"log_folder=.*takes no file"),
        ("audit.hash_key_file={files}/short", r"a hash key of 5 characters"),
        ("access.keys={files}/keys.yaml", r"the key file .*is no good"),
        ("access.keys={files}/none", r"the key file .*No such file"),
        ("workers.num_gpus=64", r"each with 64 GPU\(s\)"),
        ("workers.num_workers=9", r"workers\.num_workers=9, each with 1 CPU\(s\)"),
        ("autoscaling.max_replicas=9", r"autoscaling\.max_replicas=9, each with 1 CPU\(s\)"),
    ],
)
def test_what_is_wrong_with_a_setting_is_one_line(
    tiny_export: TinyExport, files: Path, settings: str, told: str
) -> None:
    with pytest.raises(UserError, match=told) as raised:
        check(tiny_export.folder, load_serve(settings.format(files=files).split()))
    assert "\n" not in str(raised.value)


def _without(*names: str) -> Callable[[Path, Path], None]:
    def take(folder: Path, base: Path) -> None:
        for name in names:
            (folder / name if (folder / name).exists() else base / name).unlink()

    return take


def _pointer(folder: Path, _: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    (folder / "adapter" / "adapter_model.safetensors").write_text(text)


def _no_json(folder: Path, _: Path) -> None:
    (folder / "presafe.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_without("presafe.json"), "no exported model"),
        (_no_json, "presafe.json, which is not JSON"),
        (_without("config.json"), "no config.json"),
        (_without("model.safetensors"), "no weights in .*base"),
        (_without("adapter/adapter_model.safetensors"), "no weights in .*adapter"),
        (_without("safety_head.safetensors"), "no weights in .*model"),
        (_pointer, "a pointer of Git LFS"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_one_line(
    tiny_export: TinyExport, tmp_path: Path, spoil: Callable[[Path, Path], None], told: str
) -> None:
    folder, base = tmp_path / "model", tmp_path / "base"
    shutil.copytree(tiny_export.folder, folder)
    shutil.copytree(tiny_export.base, base)
    card = json.loads((folder / "presafe.json").read_text())
    (folder / "presafe.json").write_text(json.dumps({**card, "base_model": str(base)}))
    spoil(folder, base)
    with pytest.raises(UserError, match=told) as raised:
        check(str(folder), load_serve([]))
    assert "\n" not in str(raised.value)


def test_a_model_of_the_hub_may_be_served_and_no_other_name(tmp_path: Path) -> None:
    check("organisation/name", load_serve(["unaligned=true"]))
    with pytest.raises(UserError, match="no model folder"):
        check(str(tmp_path / "none"), load_serve(["unaligned=true"]))


def test_a_wrong_setting_ends_the_command_before_ray_and_torch_are_imported(tiny_export: TinyExport) -> None:
    heavy = "print([name for name in ('ray', 'torch', 'transformers', 'openai') if name in sys.modules])"
    program = f"import atexit, sys\natexit.register(lambda: {heavy})\nfrom presafe.cli import main\nmain()"
    arguments = ["serve", tiny_export.folder, "batching.kv_cache_tokens=100"]
    ended = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert re.fullmatch(r"presafe: found batching\.kv_cache_tokens=100; needed .*\n", ended.stderr)
    assert ended.stdout == "[]\n"


@pytest.fixture
def served(tiny_export: TinyExport, tmp_path: Path) -> Iterator[tuple[ServeProcess, str]]:
    """A process that serves, and a key's token."""
    token = issue_key(str(tmp_path / "keys.yaml"), "ada")
    settings = [f"access.keys={tmp_path}/keys.yaml", f"audit.folder={tmp_path}/audit", "drain_s=120"]
    settings += [f"max_new_tokens={STREAM_TOKENS}", "max_prompt_tokens=600"]
    with serving(tmp_path, tiny_export.folder, *settings) as process:
        yield process, token


def test_sigterm_lets_streams_end_and_refuses_new_requests_and_the_operator_was_told(
    served: tuple[ServeProcess, str], tmp_path: Path
) -> None:
    process, token = served
    with (tmp_path / "keys.yaml").open("a") as file:
        file.write("keys: [\n")
    process.wait_until(lambda: "the last good API keys stay in force" in process.output)
    begun = threading.Semaphore(0)
    with ThreadPoolExecutor(STREAMS) as clients:
        streams = [clients.submit(_stream, process.url, token, begun) for _ in range(STREAMS)]
        for _ in range(STREAMS):
            assert begun.acquire(timeout=120)
        process.process.send_signal(signal.SIGTERM)
        refusals: list[httpx.Response] = []
        process.wait_until(lambda: _asked(process.url, token, refusals) == 503)
        lasted = [stream.result() for stream in streams]
    assert process.ended() == 0
    assert time.monotonic() - max(end for end, _ in lasted) < STOP_S
    assert [text.count("[DONE]") for _, text in lasted] == [1] * STREAMS
    assert refusals[-1].json()["error"]["code"] == "unavailable"
    assert int(refusals[-1].headers["retry-after"]) > 0
    assert process.left() == []
    assert "the last good API keys stay in force" in process.log
    (log,) = (tmp_path / "audit").iterdir()
    whole = [line for line in log.read_text().split("\n") if f'"completion_tokens":{STREAM_TOKENS}' in line]
    assert len(whole) == STREAMS
    assert ENDLESS not in process.log + process.output


def _body(**changes: object) -> dict[str, object]:
    return {"model": "presafe", "messages": user(ENDLESS), "temperature": 0, **changes}


def _stream(url: str, token: str, begun: threading.Semaphore) -> tuple[float, str]:
    """When a stream ended, and its text; `begun` is told of its first line."""
    headers = {"Authorization": f"Bearer {token}"}
    chat = f"{url}/v1/chat/completions"
    with httpx.stream("POST", chat, json=_body(stream=True), headers=headers, timeout=120) as response:
        assert response.status_code == 200, response.read()
        lines = response.iter_lines()
        text = [next(lines)]
        begun.release()
        text += list(lines)
    return time.monotonic(), "\n".join(text)


def _asked(url: str, token: str, answers: list[httpx.Response]) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    answers.append(httpx.post(f"{url}/v1/chat/completions", json=_body(max_tokens=8), headers=headers, timeout=120))
    return answers[-1].status_code

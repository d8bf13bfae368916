"""`presafe serve` whose cluster is killed under it, or that is told to end at once: never alive and silent."""

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from serve_process import ServeProcess, serving, starting
from tiny_reasoner import ENDLESS, TinyExport, export_tiny_reasoner, user


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> TinyExport:
    return export_tiny_reasoner(str(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def served(export: TinyExport, tmp_path: Path) -> Iterator[ServeProcess]:
    with serving(tmp_path, export.folder, "max_new_tokens=8000", "max_prompt_tokens=600") as process:
        yield process


@pytest.mark.parametrize(("title", "name"), [("raylet/raylet", "raylet"), ("gcs_server", "gcs_server")])
def test_a_killed_part_of_the_cluster_ends_it_with_a_sentence(served: ServeProcess, title: str, name: str) -> None:
    served.find(title).send_signal(signal.SIGKILL)
    assert served.ended() == 1
    assert served.output.endswith(
        f"presafe: the private cluster lost its {name} (exit code -9); the endpoint has ended\n"
    )
    assert served.left() == []


def test_a_cluster_that_is_lost_before_it_serves_ends_it_with_a_sentence(export: TinyExport, tmp_path: Path) -> None:
    with starting(tmp_path, export.folder) as served:
        served.wait_until(lambda: served.has("ray::ServeController"))
        served.find("raylet/raylet").send_signal(signal.SIGKILL)
        assert served.ended() == 1
        assert "presafe: the private cluster lost its raylet (exit code -9); the endpoint has ended\n" in served.output
        assert served.left() == []


def test_a_killed_proxy_comes_back_and_a_killed_controller_ends_it(served: ServeProcess) -> None:
    served.find("ray::ProxyActor").send_signal(signal.SIGKILL)
    answers: Counter[int | str] = Counter()

    def is_back() -> bool:
        try:
            answers[httpx.get(f"{served.url}/v1/models", timeout=30).status_code] += 1
        except httpx.TransportError:
            answers["no connection"] += 1
        return answers[200] > 0 and answers.total() > answers[200]

    served.wait_until(is_back)
    assert set(answers) <= {200, 503, "no connection"}
    served.find("ray::ServeController").send_signal(signal.SIGKILL)
    assert served.ended() == 1
    assert served.output.endswith("presafe: the private cluster lost its Serve controller; the endpoint has ended\n")
    assert served.left() == []


def test_a_second_signal_ends_it_at_once(served: ServeProcess) -> None:
    begun = threading.Event()
    client = threading.Thread(target=_stream, args=(served.url, begun))
    client.start()
    assert begun.wait(60)
    served.process.send_signal(signal.SIGINT)
    served.wait_until(lambda: "stopping; new requests are refused" in served.output)
    served.process.send_signal(signal.SIGINT)
    assert served.ended() == 0
    assert served.output.endswith("presafe: ended at once\n")
    assert served.left() == []
    client.join()


def _stream(url: str, begun: threading.Event) -> None:
    """A stream that is cut off."""
    body = {"model": "presafe", "messages": user(ENDLESS), "temperature": 0, "stream": True}
    with (
        suppress(httpx.TransportError),
        httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=120) as response,
    ):
        for _ in response.iter_lines():
            begun.set()

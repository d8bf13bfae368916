"""A TCP proxy that can be closed, cut connections, and answer in place of what is behind it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class FailingProxy:
    """Stands before `target`, an http:// URL. `requests` are the first lines of what it was asked, in their order."""

    target: str
    requests: list[str] = field(default_factory=list)
    cuts: list[tuple[str, int]] = field(default_factory=list)
    """A direction (`up`, `down`) and bytes for each of the next requests, whose connection ends there."""
    answers: list[tuple[int, str]] = field(default_factory=list)
    """Status and body of the answers to the next requests, which do not reach the target."""

    def __post_init__(self) -> None:
        self._connections: list[socket.socket] = []
        self._port = 0
        self._listener: socket.socket | None = None
        self.open()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """From now on connections are refused, and those that there are end."""
        assert self._listener is not None
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            _end(connection)
        self._connections.clear()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                self._connections.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        parts = urlsplit(self.target)
        up: int | None = None
        with suppress(OSError), socket.create_connection((parts.hostname, parts.port)) as server:
            down: list[int | None] = [None]
            threading.Thread(target=self._answer, args=(server, client, down), daemon=True).start()
            while piece := client.recv(2**16):
                if piece.split(b" ", 1)[0] in METHODS:
                    self.requests.append(piece.split(b" HTTP", 1)[0].decode())
                    if self.answers:
                        client.sendall(_answer(*self.answers.pop(0), head=piece.startswith(b"HEAD")))
                        break
                    direction, left = self.cuts.pop(0) if self.cuts else ("", 0)
                    up, down[0] = (left if direction == "up" else None), (left if direction == "down" else None)
                if up is not None and len(piece) >= up:
                    server.sendall(piece[:up])
                    break
                up = None if up is None else up - len(piece)
                server.sendall(piece)
            _end(server)
        _end(client)

    def _answer(self, server: socket.socket, client: socket.socket, down: list[int | None]) -> None:
        with suppress(OSError):
            while piece := server.recv(2**16):
                left = down[0]
                if left is not None and len(piece) >= left:
                    client.sendall(piece[:left])
                    break
                down[0] = None if left is None else left - len(piece)
                client.sendall(piece)
        _end(client)


METHODS = (b"GET", b"PUT", b"POST", b"HEAD", b"DELETE")


def _answer(status: int, body: str, *, head: bool) -> bytes:
    beginning = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return (beginning if head else beginning + body).encode()


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def failing_proxy(target: str) -> Iterator[FailingProxy]:
    proxy = FailingProxy(target)
    yield proxy
    with suppress(OSError):
        proxy.close()

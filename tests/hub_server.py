"""A Hugging Face hub on this machine: its HTTP protocol for models and data sets, as `huggingface_hub` speaks it.

Repositories are files in memory at one commit. A gated one gives its list of files to everybody, as the hub does, and
a file to the bearer of LET_IN alone. `requests` has every request, METHOD and path.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

LET_IN, OTHER = "hf_let_in", "hf_other"
"""Tokens: of an account that owners of gated repositories have let in, and of another one."""
RepoType = Literal["models", "datasets"]


@dataclass
class Repo:
    """One repository; `commit` by default follows from its files."""

    files: Mapping[str, bytes]
    commit: str = ""
    gated: bool = False

    def __post_init__(self) -> None:
        if not self.commit:
            named = [(name, hashlib.sha1(content).hexdigest()) for name, content in sorted(self.files.items())]
            self.commit = hashlib.sha1(json.dumps(named).encode()).hexdigest()


@dataclass
class Hub:
    """A running one: repositories by (type, id) may be changed, and files beside them by path."""

    url: str
    repos: dict[tuple[RepoType, str], Repo] = field(default_factory=dict)
    plain: dict[str, bytes] = field(default_factory=dict)
    """What any other web server has, by path."""
    requests: list[str] = field(default_factory=list)

    def environment(self, home: Path, token: str | None = None) -> dict[str, str]:
        """What leads a process to it, with a cache of its own in `home`."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": token or "",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
        }


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub that answers while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.hub  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub  # type: ignore[attr-defined,no-any-return]

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path in self.hub.plain:
            self._send(self.hub.plain[path], {"ETag": '"plain"'})
            return
        match path.strip("/").split("/"):
            case ["api", "models" | "datasets" as kind, owner, name, *rest]:
                self._api(kind, f"{owner}/{name}", rest, body)
            case ["datasets", owner, name, "resolve", revision, *rest]:
                self._file("datasets", f"{owner}/{name}", revision, "/".join(rest))
            case [owner, name, "resolve", revision, *rest]:
                self._file("models", f"{owner}/{name}", revision, "/".join(rest))
            case _:
                self._error(404, "NotFound")

    def _api(self, kind: RepoType, repo_id: str, rest: list[str], body: bytes) -> None:
        revision = rest[1] if len(rest) > 1 else "main"
        if (repo := self._repo(kind, repo_id, revision)) is None:
            return
        match rest:
            case [] | ["revision", _]:
                self._json(
                    {
                        "id": repo_id,
                        "sha": repo.commit,
                        "private": False,
                        "gated": "auto" if repo.gated else False,
                        "tags": [],
                        "siblings": [{"rfilename": name} for name in repo.files],
                    }
                )
            case ["tree", _, *below]:
                recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() in ("true", "1")
                entries = _tree(repo, "/".join(below), recursive=recursive)
                if entries:
                    self._json(entries)
                else:
                    self._error(404, "EntryNotFound", repo)
            case ["paths-info", _]:
                wanted = parse_qs(body.decode()).get("paths", [])
                every = [*_tree(repo, "", recursive=True), *_folders(repo)]
                self._json([entry for entry in every if entry["path"] in wanted])
            case _:
                self._error(404, "NotFound")

    def _file(self, kind: RepoType, repo_id: str, revision: str, name: str) -> None:
        if (repo := self._repo(kind, repo_id, revision)) is None:
            return
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if repo.gated and token != LET_IN:
            self._error(403 if token else 401, "GatedRepo", repo)
        elif name not in repo.files:
            self._error(404, "EntryNotFound", repo)
        else:
            content = repo.files[name]
            self._send(content, {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": repo.commit})

    def _repo(self, kind: RepoType, repo_id: str, revision: str) -> Repo | None:
        """The repository at that revision; what is wrong is answered."""
        repo = self.hub.repos.get((kind, repo_id))
        if repo is None:
            self._error(404, "RepoNotFound")
        elif revision not in ("main", repo.commit):
            self._error(404, "RevisionNotFound")
        else:
            return repo
        return None

    def _json(self, value: object) -> None:
        self._send(json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, content: bytes, headers: Mapping[str, str]) -> None:
        asked = self.headers.get("Range", "").removeprefix("bytes=").split("-")
        begin, end = (int(asked[0]), int(asked[1] or len(content) - 1)) if len(asked) == 2 else (0, len(content) - 1)
        part = content[begin : end + 1]
        self.send_response(206 if len(asked) == 2 else 200)
        if len(asked) == 2:
            self.send_header("Content-Range", f"bytes {begin}-{begin + len(part) - 1}/{len(content)}")
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(part)

    def _error(self, status: int, code: str, repo: Repo | None = None) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        if repo is not None:
            self.send_header("X-Repo-Commit", repo.commit)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _tree(repo: Repo, folder: str, *, recursive: bool) -> list[dict[str, object]]:
    """Files below a folder and, but for `recursive`, its folders alone where they are deeper."""
    prefix = f"{folder}/" if folder else ""
    inside = {name: content for name, content in repo.files.items() if name.startswith(prefix)}
    direct = {name: content for name, content in inside.items() if recursive or "/" not in name[len(prefix) :]}
    files = [
        {"type": "file", "path": name, "size": len(content), "oid": _oid(content)} for name, content in direct.items()
    ]
    deeper = {prefix + name[len(prefix) :].split("/")[0] for name in inside.keys() - direct.keys()}
    return [*files, *({"type": "directory", "path": name, "oid": _oid(name.encode())} for name in sorted(deeper))]


def _folders(repo: Repo) -> list[dict[str, object]]:
    names = {str(parent) for name in repo.files for parent in Path(name).parents} - {"."}
    return [{"type": "directory", "path": name, "oid": _oid(name.encode())} for name in sorted(names)]

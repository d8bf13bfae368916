"""Fingerprints of what a part of a run reads: rows in any order, files, folders, models, data sets.

16 hex digits each; of something on the hub, its commit. What is not there has the fingerprint `none`.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pyarrow.compute as pc

from presafe import storage
from presafe.hub_access import hub_errors

NONE = "none"
COMMIT = re.compile(r"[0-9a-f]{40}")
PINNED = re.compile(r"https?://\S+/[0-9a-f]{40}/\S+")
"""The address of a file of a repository at a commit: what is there stays as it is."""
BITS = 128


@dataclass(frozen=True)
class Contents:
    """Looks at files once: `memory` is a JSON file that keeps fingerprints by the sizes and times of what was read."""

    memory: str

    def of_rows(self, url: str, where: pc.Expression | None = None) -> str:
        """Of the rows of a Parquet file or folder, those for which `where` holds: the same in any order of rows.

        Memory is constant; 15 microseconds of one core a short row.
        """
        return self._remembered(url, str(where), frozenset(), lambda _: _of_rows(url, where))

    def of_file(self, url: str) -> str:
        """Of a file's bytes; of a PINNED one its address."""
        return _short(url) if PINNED.fullmatch(url) else self.of_folder(url)

    def of_folder(self, url: str, leave_out: frozenset[str] = frozenset()) -> str:
        """Of all files in a folder, names and bytes, but files and folders of the names `leave_out`."""

        def hashed(names: list[str]) -> str:
            files = {name: storage.join(url, name) if name else url for name in names}
            return _short(json.dumps({name: storage.hash_file(file) for name, file in files.items()}))

        return self._remembered(url, "bytes", leave_out, hashed)

    def of_model(self, name: str) -> str:
        """Of a model's folder or URL; of a hub name, the commit that it stands for now."""
        return self.of_folder(name) if storage.exists(name) else hub_commit(name, None, "model")

    def _remembered(self, url: str, what: str, leave_out: frozenset[str], look: Callable[[list[str]], str]) -> str:
        if not storage.exists(url):
            return NONE
        stamps = {
            name: stamp for name, stamp in sorted(storage.stamps(url).items()) if leave_out.isdisjoint(name.split("/"))
        }
        stamp, key = _short(json.dumps(stamps)), f"{what} of {url}"
        known = storage.read_json(self.memory) if storage.exists(self.memory) else {}
        if known.get(key, {}).get("stamp") != stamp:
            known[key] = {"stamp": stamp, "content": look([*stamps])}
            with suppress(OSError):  # a run directory that takes no file is told of when its first part begins
                storage.write_json(self.memory, known)
        return str(known[key]["content"])


def hub_commit(name: str, revision: str | None, kind: str) -> str:
    """The commit of a model or dataset of the hub; offline, the one in the local cache; else `none`."""
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    return next(filter(None, _commits(name, revision, kind)), NONE)


def _commits(name: str, revision: str | None, kind: str) -> Iterator[str | None]:
    from huggingface_hub import HfApi, snapshot_download

    with suppress(*hub_errors()):  # whoever loads it says what is wrong
        yield HfApi().repo_info(name, revision=revision, repo_type=kind, timeout=10).sha
    with suppress(OSError, ValueError):
        cached = snapshot_download(name, repo_type=kind, revision=revision, local_files_only=True, allow_patterns=[])
        yield cached.rstrip("/").rsplit("/", 1)[-1]


def _of_rows(url: str, where: pc.Expression | None) -> str:
    total = 0
    for row in storage.stream_dicts(url, where):
        text = json.dumps(row, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
        total += int.from_bytes(hashlib.sha256(text).digest()[: BITS // 8], "big")
    return _short(str(total % 2**BITS))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]

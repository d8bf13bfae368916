"""Human decisions on answers of a run, from a small file."""

import csv
import io
import json
import posixpath
from typing import Any

from presafe import storage
from presafe.engines.job import Generation
from presafe.errors import UserError, user_error
from presafe.records import Decision

HUMAN: dict[str, Decision] = {"refuse": "refuse", "comply": "comply"}
Key = tuple[str, str, str | None]
"""What names a prompt (`prompt_id` or `query`), its value, and the answer, None where all answers to it are meant."""


class HumanLabels:
    """Decisions by prompt, or by prompt and answer, in memory: the file is small.

    A label without an answer holds for whatever was answered to its prompt, so it is right only for the run it was
    written for; one with its answer holds wherever that answer is given.
    """

    def __init__(self, labels: dict[Key, Decision]) -> None:
        self._labels = labels

    def __len__(self) -> int:
        return len(self._labels)

    def __call__(self, row: Generation) -> Decision | None:
        """The label of a generation's answer, the most specific one; None where nobody labelled it."""
        names = (("prompt_id", row.prompt_id), ("query", _plain(row.text)))
        for answer in (_plain(row.answer), None):
            for name, value in names:
                if (name, value, answer) in self._labels:
                    return self._labels[name, value, answer]
        return None


def read_human_labels(url: str) -> HumanLabels:
    """Rows with `decision`, with `prompt_id` or `query`, and perhaps with `answer`.

    Raises UserError where the file is missing or of another kind, and names the first row that is wrong: without a
    prompt, with another decision, or against an earlier row.
    """
    labels: dict[Key, Decision] = {}
    for number, row in enumerate(_rows(storage.absolute(url)), start=1):
        try:
            key, decision = _label(row)
            if labels.setdefault(key, decision) != decision:
                raise ValueError("it contradicts an earlier row")
        except ValueError as error:
            raise user_error(
                found=f"row {number} of {url} ({error})",
                needed="decision, prompt_id or query, and perhaps answer",
                change="mend the file",
            ) from error
    if not labels:
        raise user_error(
            found=f"no label in {url}", needed="at least one", change="mend the file or unset human_labels"
        )
    return HumanLabels(labels)


def _label(row: dict[str, Any]) -> tuple[Key, Decision]:
    decision = HUMAN.get(str(row.get("decision")).strip().lower())
    if decision is None:
        raise ValueError(f"decision {row.get('decision')!r} is neither refuse nor comply")
    answer = _plain(row["answer"]) if row.get("answer") else None
    if row.get("prompt_id"):
        return ("prompt_id", str(row["prompt_id"]), answer), decision
    if row.get("query"):
        return ("query", _plain(row["query"]), answer), decision
    raise ValueError("it names no prompt")


def _rows(url: str) -> list[dict[str, Any]]:
    if not storage.exists(url):
        raise user_error(found=f"no file {url}", needed="human labels", change="correct human_labels")
    suffix = posixpath.splitext(url)[1].lower()
    try:
        if suffix == ".parquet":
            rows: list[dict[str, Any]] = storage.read_table(url).to_pylist()
            return rows
        if suffix == ".csv":
            return list(csv.DictReader(io.StringIO(storage.read_text(url), newline="")))
        if suffix == ".jsonl":
            return [dict(json.loads(line)) for line in storage.read_text(url).split("\n") if line.strip()]
    except (ValueError, TypeError) as error:
        raise UserError(f"found {url}, which cannot be read ({error}); needed a {suffix} file; mend it") from error
    raise user_error(found=url, needed="a .jsonl, .csv or .parquet file of labels", change="convert it")


def _plain(text: Any) -> str:
    return " ".join(str(text).split())

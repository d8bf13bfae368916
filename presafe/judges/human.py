"""Human decisions on answers of a run, from a small file."""

from typing import Any

from presafe import storage
from presafe.engines.job import Generation
from presafe.errors import user_error
from presafe.files import file_rows
from presafe.files.values import missing
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
        """The label of a generation's answer, the most specific one; None where nobody labelled it.

        Under an attack another answer is given to the same prompt: there a label needs its answer.
        """
        names = (("prompt_id", row.prompt_id), ("query", _plain(row.query)))
        for answer in (_plain(row.answer), None)[: 2 if row.attack is None else 1]:
            for name, value in names:
                if (name, value, answer) in self._labels:
                    return self._labels[name, value, answer]
        return None


def read_human_labels(url: str) -> HumanLabels:
    """Rows with `decision`, with `prompt_id` or `query`, and perhaps with `answer`, as a spreadsheet may save them.

    Raises UserError where the file is missing or of another kind, and names the first row that is wrong: without a
    prompt, with another decision, or against an earlier row.
    """
    labels: dict[Key, Decision] = {}
    for number, (found, problem) in enumerate(file_rows(storage.absolute(url), set), start=1):
        row = {name.strip().lower(): value for name, value in found.items() if not missing(value)}
        try:
            if problem is not None:
                raise ValueError(problem.detail)
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
    answer = _plain(row["answer"]) if "answer" in row else None
    if "prompt_id" in row:
        return ("prompt_id", _plain(row["prompt_id"]), answer), decision
    if "query" in row:
        return ("query", _plain(row["query"]), answer), decision
    raise ValueError("it names no prompt")


def _plain(text: Any) -> str:
    """The text without differences in spacing. Raises ValueError where it holds bytes of another encoding."""
    try:
        str(text).encode()
    except UnicodeEncodeError as error:
        raise ValueError("it is not UTF-8: save the file as `CSV UTF-8`") from error
    return " ".join(str(text).split())

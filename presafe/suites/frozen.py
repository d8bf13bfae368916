"""The frozen suites of a run: one file of prompts, which the stages read that measure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from presafe import storage
from presafe.records import Prompt
from presafe.stages import RunDirectory

FOLDER = "suites"
"""In the run directory."""
QUESTIONS = "questions.parquet"
"""Beside the prompts, where any suite has a form or choices."""


@dataclass(frozen=True)
class Question:
    """The text of a suite's prompt without what its source puts around it."""

    suite: str
    prompt_id: str
    text: str


def suite_file(run: RunDirectory) -> str:
    """Prompt rows of all suites, whose `source` is the suite's name."""
    return storage.join(run.folder(FOLDER), "prompts.parquet")


def suite_prompts(run: RunDirectory) -> Iterator[Prompt]:
    """Its rows, streamed: suites in the order of the config that froze them."""
    return storage.stream_rows(suite_file(run), Prompt)


def compared_prompts(folder: str) -> Iterator[Prompt]:
    """What training prompts are compared with: each prompt of the suites in `folder`, and once more as its question
    alone where its source puts anything around that. The words of a form would make what is alike look different."""
    url = storage.join(folder, QUESTIONS)
    questions = storage.stream_rows(url, Question) if storage.exists(url) else ()
    texts = {(one.suite, one.prompt_id): one.text for one in questions}
    for prompt in storage.stream_rows(storage.join(folder, "prompts.parquet"), Prompt):
        yield prompt
        if (text := texts.get((prompt.source, prompt.prompt_id))) is not None:
            yield replace(prompt, text=text)

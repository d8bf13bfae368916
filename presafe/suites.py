"""The frozen suites of a run: one file of prompts, which the stages read that measure."""

from collections.abc import Iterator

from presafe import storage
from presafe.records import Prompt
from presafe.stages import RunDirectory

FOLDER = "suites"
"""In the run directory."""


def suite_file(run: RunDirectory) -> str:
    """Prompt rows of all suites, whose `source` is the suite's name."""
    return storage.join(run.folder(FOLDER), "prompts.parquet")


def suite_prompts(run: RunDirectory) -> Iterator[Prompt]:
    """Its rows, streamed: suites in the order of the config that froze them."""
    return storage.stream_rows(suite_file(run), Prompt)

"""What grading needs of the suites' prompts, by id, without their texts."""

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from presafe import storage
from presafe.records import Kind, Prompt, schema, to_table


@dataclass(frozen=True)
class Asked:
    """A prompt of a suite. One prompt may be in several suites."""

    prompt_id: str
    suite: str
    kind: Kind
    reference: str | None


class SuitePrompts:
    """Prompts by id, in about 60 bytes each and their references."""

    def __init__(self, prompts: Iterable[Prompt]) -> None:
        asked = (Asked(p.prompt_id, p.source, p.kind, p.reference) for p in prompts)
        chunks = iter(lambda: list(itertools.islice(asked, storage.CHUNK)), [])
        tables = [to_table(chunk, Asked) for chunk in chunks]
        self._rows = pa.concat_tables([schema(Asked).empty_table(), *tables]).sort_by("prompt_id")
        self._ids = self._rows["prompt_id"].combine_chunks()

    def __getitem__(self, prompt_id: str) -> Iterator[Asked]:
        """The prompt in each of its suites. Raises KeyError where no suite has it."""
        places, value = range(len(self._ids)), lambda k: self._ids[k].as_py()
        first, last = bisect_left(places, prompt_id, key=value), bisect_right(places, prompt_id, key=value)
        if first == last:
            raise KeyError(prompt_id)
        return (Asked(**row) for row in self._rows.slice(first, last - first).to_pylist())

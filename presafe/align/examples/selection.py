"""Which candidates become examples, streamed over their tables: limits of demonstrations, signal pool, order.

Of a candidate nothing is held but, where signals are dealt out at random, its signal and kind: 16 bytes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from presafe.align.objectives import objective
from presafe.config import Align
from presafe.decision.rule import Path
from presafe.errors import user_error

Tables = Iterator[pa.Table]
PATHS: tuple[Path, ...] = get_args(Path)
Masks = dict[Path, NDArray[np.bool_]]


def examples(candidates: Callable[[], Tables], align: Align, seed: int) -> Tables:
    """Tables of the examples, with their sources; their signals as `align.labels` says.

    `candidates` begins anew with each call.
    """

    def chosen() -> Tables:
        return selected(candidates, align)

    if align.labels == "classifier":
        return chosen()
    return with_shuffled_signals(chosen, seed, apart=align.labels == "permuted")


def selected(candidates: Callable[[], Tables], align: Align) -> Tables:
    """Demonstrations of Path A, then of Path B, then the signal pool, each in the order of `candidates`.

    The limits take the first of the run's own demonstrations, with their copies in other forms; the others go to the
    pool, where there is one.
    """
    for path in PATHS:
        for table, taken in _taken(candidates(), align):
            yield table.filter(pa.array(taken[path]))
    if align.signal_batch_size:
        for table, taken in _taken(candidates(), align):
            rest = table.filter(pa.array(~(taken["refuse"] | taken["think"])))
            empty = pa.array([[]] * len(rest), rest.schema.field("completion").type)
            yield rest.set_column(rest.schema.get_field_index("completion"), "completion", empty)


def with_shuffled_signals(chosen: Callable[[], Tables], seed: int, *, apart: bool = False) -> Tables:
    """The same signals, each at a random prompt: what they say of their prompt is gone, their distribution stays.

    Harmful prompts and others are shuffled `apart`, or together.
    """
    columns = [np.stack([_signals(table), pc.equal(table["path"], "refuse").to_numpy()]) for table in chosen()]
    every, harmful = np.concatenate([np.zeros((2, 0)), *columns], axis=1)
    random = np.random.default_rng((seed, len(every)))
    for kind in (harmful == 1, harmful == 0) if apart else (np.full(len(every), True),):
        known = kind & ~np.isnan(every)
        every[known] = random.permutation(every[known])
    begin = 0
    for table in chosen():
        own = pa.array(every[begin : begin + len(table)], from_pandas=True)  # which takes NaN for a missing one
        yield table.set_column(table.schema.get_field_index("refuse_probability"), "refuse_probability", own)
        begin += len(table)


def counted(tables: Iterable[pa.Table], counts: Counter[str], by_source: Counter[str]) -> Tables:
    """The same tables; `counts` has how many are of Path A, of Path B and of the pool, `by_source` demonstrations."""
    for table in tables:
        demonstrates = _demonstrates(table)
        chosen = table.filter(pa.array(demonstrates))
        for column, found in (("path", counts), ("source", by_source)):
            for entry in pc.value_counts(chosen[column]).to_pylist():
                found[entry["values"]] += entry["counts"]
        counts["pool"] += int((~demonstrates).sum())
        yield table


def check(counts: Counter[str], align: Align) -> None:
    """Raise UserError where the objective and the limits ask for demonstrations, or a pool, that are not there."""
    wanted: dict[Path, bool] = {
        "refuse": objective(align).path_a != "none" and align.max_refuse_examples != 0,
        "think": align.max_think_examples != 0,
    }
    for path in PATHS:
        if wanted[path] and not counts[path]:
            raise user_error(
                found=f"no Path {'A' if path == 'refuse' else 'B'} demonstration ({path}) in the align split",
                needed="harmful prompts that the teacher refused, and benign ones with a trace",
                change="add prompts or align.demonstrations, or look at teacher/answers.parquet and "
                "teacher/traces.parquet",
            )
    if not (counts["refuse"] or counts["think"] or align.signal_batch_size):
        raise user_error(
            found="nothing to train on: the limits leave no demonstration, and there is no signal pool",
            needed="demonstrations or a signal pool",
            change="raise align.max_think_examples or align.max_refuse_examples, or set align.signal_batch_size",
        )
    if align.signal_batch_size and not counts["pool"]:
        raise user_error(
            found="no prompt for the signal pool: all of the align split are demonstrations, and split pool is empty",
            needed="prompts without one",
            change="set align.signal_batch_size=0, lower the limits of demonstrations, or add wrappers to the prompts",
        )


def _taken(tables: Tables, align: Align) -> Iterator[tuple[pa.Table, Masks]]:
    """Each table with the rows of it that demonstrate a path."""
    limits = {"refuse": align.max_refuse_examples, "think": align.max_think_examples}
    seen = dict.fromkeys(PATHS, 0)
    for table in tables:
        demonstrates, ready = _demonstrates(table), table["ready"].to_numpy()
        counted = ~(ready | table["in_form"].to_numpy())  # what a copy is of stands before it, and decides for it
        masks: Masks = {}
        for path in PATHS:
            of_path = demonstrates & pc.equal(table["path"], path).to_numpy()
            own = of_path & counted
            number, limit = seen[path] + np.cumsum(own), limits[path]
            masks[path] = of_path if limit is None else of_path & (ready | (number <= limit))
            seen[path] += int(own.sum())
        yield table, masks


def _demonstrates(table: pa.Table) -> Any:
    return pc.list_value_length(table["completion"]).to_numpy() > 0


def _signals(table: pa.Table) -> Any:
    """NaN where there is none."""
    return table["refuse_probability"].to_numpy().astype(np.float64)

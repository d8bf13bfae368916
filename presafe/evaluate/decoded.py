"""What further decodings make of the same prompts: the mean of k answers, any of k, what is refused before thinking."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from presafe import storage
from presafe.config import Evaluate, NamedDecoding
from presafe.config.attacks import NO_ATTACK
from presafe.evaluate.by_prompt import Answers, Array
from presafe.evaluate.labels import NO_LABELS, Labels, attack_of
from presafe.evaluate.measurements import OUTCOME, Measurement
from presafe.evaluate.several import any_of
from presafe.evaluate.table import TITLES, percent
from presafe.evaluate.tally import is_overlapping, keys_of
from presafe.records import DecisionMode, Kind
from presafe.statistics.clustered import share_interval

ANY_OF = {
    "attack_success_rate": "attack_success_any_of_k",
    "over_refusal_rate": "over_refusal_any_of_k",
    "reasoning_accuracy": "reasoning_pass_at_k",
}
"""By the metric of one answer: of attacks and refusals the worst of k answers counts, of a problem the best."""
REFUSED = "refused_before_cot_rate"
MEAN, ANY, REFUSED_FIRST = "mean of k", "any of k", "refused before CoT"
QUANTITIES = {**dict.fromkeys(ANY_OF.values(), ANY), REFUSED: REFUSED_FIRST}
"""What a metric is a figure of; all others are means of k."""
ARM = ("suite", "attack", "model", "cot", "gate", "decoding")
COLUMNS = (*ARM, "prompt_id", "verdict", "refused_before_cot")
"""Of EvalRecord, what is looked at."""
COUNTS = ("hits", "scored", "refused", "answers")


class Decoded(Measurement):
    """A measurement of the answers of one of `evaluate.decodings`; `k` of the metrics of any of k is its samples."""

    decoding: str
    temperature: float
    top_p: float
    decision: DecisionMode


def read_counts(
    url: str, counted: Mapping[str, str], overlapping: Collection[tuple[str, str]] = frozenset()
) -> pa.Table:
    """Of a file of EvalRecord rows, a row a prompt, arm and decoding with COUNTS.

    They are how many of its answers the suite's metric counts (`counted` has the verdict of each suite), how many were
    scored, how many of those were refused before thinking, and how many there are.
    """
    return count(storage.stream_tables(url, [*COLUMNS]), counted, overlapping)


def count(
    tables: Iterable[pa.Table], counted: Mapping[str, str], overlapping: Collection[tuple[str, str]] = frozenset()
) -> pa.Table:
    """The same of records in tables; those of prompts that are like one that was trained on are in none."""
    keys, by = keys_of(overlapping), [*ARM, "prompt_id"]
    nothing = pa.schema([(name, pa.string()) for name in by] + [(name, pa.int64()) for name in COUNTS]).empty_table()

    def together(parts: Sequence[pa.Table]) -> pa.Table:
        sums = [(name, "sum") for name in COUNTS]
        return pa.concat_tables(parts).group_by(by).aggregate(sums).rename_columns([*by, *COUNTS])

    found, waiting = list[pa.Table](), list[pa.Table]()
    for table in tables:
        rows = table.filter(pc.invert(is_overlapping(table, keys)))
        wanted = pa.array([counted[suite] for suite in rows["suite"].to_pylist()], pa.string())
        scored = pc.not_equal(rows["verdict"], "unscored")
        values = {
            "hits": pc.equal(rows["verdict"], wanted),
            "scored": scored,
            "refused": pc.and_(scored, rows["refused_before_cot"]),
            "answers": pc.is_valid(rows["verdict"]),
        }
        rows = rows.select(by)
        for name, value in values.items():
            rows = rows.append_column(name, pc.cast(value, pa.int64()))
        waiting.append(rows)
        if sum(map(len, waiting)) > max(storage.CHUNK, *map(len, found), 0):  # seldom: each time all are summed up
            found, waiting = [together([*found, *waiting])], []
    return together([*found, *waiting]) if found or waiting else nothing


def of_decodings(
    counts: pa.Table, settings: Evaluate, kinds: Mapping[str, Kind], labels: Labels = NO_LABELS
) -> Iterator[Decoded]:
    """Of each suite, attack, arm and decoding, the mean over all answers and the share of prompts of which any of its
    samples counts; with CoT on also the share that was refused before the first token of thought.

    Intervals rest on prompts. Above `max_unscored_share` a cell claims no value. `kinds` gives the kind of each suite,
    in the order of the report.
    """
    decodings = {one.name: one for one in settings.named_decodings()}
    suites, names, models = [*kinds], [*decodings], [*settings.models]
    by_arm = counts.group_by([*ARM]).aggregate([(name, "list") for name in COUNTS])
    lists = {name: by_arm[f"{name}_list"].combine_chunks() for name in COUNTS}
    cells = [{**cell, "place": place} for place, cell in enumerate(by_arm.select([*ARM]).to_pylist())]

    def order(cell: dict[str, Any]) -> tuple[Any, ...]:
        attack = attack_of(labels.get(cell["suite"], NO_ATTACK), cell["attack"])
        place = (suites.index(cell["suite"]), attack != NO_ATTACK, attack)
        return *place, models.index(cell["model"]), cell["cot"] != "on", cell["gate"], names.index(cell["decoding"])

    for cell in sorted(cells, key=order):
        place = cell.pop("place")
        arrays = {name: found[place].values.to_numpy() for name, found in lists.items()}
        cell["attack"] = attack_of(labels.get(cell["suite"], NO_ATTACK), cell["attack"])
        how = decodings[cell["decoding"]]
        yield from _cell(cell, how, OUTCOME[kinds[cell["suite"]]][0], arrays, settings.max_unscored_share)


def _cell(
    cell: Mapping[str, str], how: NamedDecoding, metric: str, counts: Mapping[str, Array], ceiling: float
) -> Iterator[Decoded]:
    told = {"temperature": how.decoding.temperature, "top_p": how.decoding.top_p, "decision": how.decision}
    mean = _mean({**cell, **told, "metric": metric}, counts["hits"], counts, ceiling)
    yield mean
    worst = any_of(mean, ANY_OF[metric], Answers(counts["hits"], counts["scored"]), how.samples, ceiling)
    assert isinstance(worst, Decoded)
    yield worst
    if cell["cot"] == "on":
        yield _mean({**cell, **told, "metric": REFUSED}, counts["refused"], counts, ceiling)


def _mean(named: Mapping[str, Any], hits: Array, counts: Mapping[str, Array], ceiling: float) -> Decoded:
    """The share of scored answers that `hits` [prompts] counts."""
    n, total = int(counts["scored"].sum()), int(counts["answers"].sum())
    too_unscored = total - n > ceiling * total
    claims = n > 0 and not too_unscored
    pairs, prompts = np.unique(np.stack([hits, counts["scored"]], axis=1), axis=0, return_counts=True)
    some = pairs[:, 1] > 0
    low, high = (0.0, 1.0)
    if claims:
        low, high = share_interval(pairs[some, 0].astype(float), pairs[some, 1], prompts[some])
    return Decoded(
        **named,
        value=float(hits.sum()) / n if claims else None,
        ci_low=low,
        ci_high=high,
        n=n,
        unscored=total - n,
        too_unscored=too_unscored,
    )


def shown(found: Sequence[Decoded]) -> list[Decoded]:
    """What the page has: with CoT on, where it was asked, and the gate off."""
    on = any(one.cot == "on" for one in found)
    return [one for one in found if one.gate == "off" and (one.cot == "on") == on]


def decoded_table(found: Sequence[Decoded], usual: Sequence[Measurement], settings: Evaluate) -> list[list[str]]:
    """For the page, with a header; empty without any. In front of the others stands `evaluate.decoding`, of which
    `usual` has the measurements."""
    cells = dict[tuple[str, str, str], dict[str, dict[str, Decoded]]]()
    for one in shown(found):
        decodings = cells.setdefault((one.asked, one.model, one.cot), {})
        decodings.setdefault(one.decoding, {})[QUANTITIES.get(one.metric, MEAN)] = one
    if not cells:
        return []
    known: dict[tuple[str, ...], Measurement]
    known = {(m.asked, m.model, m.cot, m.metric): m for m in usual if (m.gate, m.k) == ("off", 1)}
    table = [["metric (%)", "suite", "model", "temperature", "top-p", "decision", "k", MEAN, ANY, REFUSED_FIRST]]
    for (asked, model, cot), by_name in cells.items():
        metric = next(iter(by_name.values()))[MEAN].metric
        names = [TITLES[metric], asked, model]
        if served := known.get((asked, model, cot, metric)):
            how = [f"{settings.decoding.temperature:g}", f"{settings.decoding.top_p:g}", settings.decision]
            refused = known.get((asked, model, cot, REFUSED))
            table.append([*names, *how, "-", percent(served), "-", percent(refused)])
        for of_decoding in by_name.values():
            mean, worst = of_decoding[MEAN], of_decoding[ANY]
            how = [f"{mean.temperature:g}", f"{mean.top_p:g}", mean.decision, str(worst.k)]
            table.append([*names, *how, percent(mean), percent(worst), percent(of_decoding.get(REFUSED_FIRST))])
    return table

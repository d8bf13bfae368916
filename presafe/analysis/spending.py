"""Tokens that answers cost: what a refusal before the first thought saves, and what the alignment adds elsewhere."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from presafe import storage
from presafe.stages import RunDirectory
from presafe.statistics.clustered import ENDS, RESAMPLES, SEED

COLUMNS = ["suite", "prompt_id", "attack", "model", "num_tokens"]
WITH_COT = (pc.field("gate") == "off") & (pc.field("cot") == "on")


@dataclass(frozen=True)
class Spent:
    """Mean tokens of an answer with chain-of-thought on, gate off, on `n` prompts of a suite that both models answered.

    `ratio` is aligned over base, with the 95 % percentile interval of a bootstrap of prompts.
    """

    suite: str
    n: int
    base: float
    aligned: float
    ratio: float
    low: float
    high: float


def spent(run: RunDirectory, labels: Mapping[str, str]) -> Iterator[Spent]:
    """Of each suite in `labels` (`suites.attack`), its prompts as it has them, several answers to one averaged."""
    found: dict[str, dict[str, dict[str, list[int]]]] = {
        suite: {model: defaultdict(list) for model in ("base", "aligned")} for suite in labels
    }
    for table in storage.stream_tables(storage.join(run.folder("evaluate"), "records.parquet"), COLUMNS, WITH_COT):
        for row in table.to_pylist():
            if row["attack"] == labels[row["suite"]]:
                found[row["suite"]][row["model"]][row["prompt_id"]].append(row["num_tokens"])
    for suite, models in found.items():
        prompts = sorted(models["base"].keys() & models["aligned"].keys())
        if prompts:
            tokens = np.array([[np.mean(models[m][prompt]) for prompt in prompts] for m in ("base", "aligned")])
            yield _spent(suite, tokens)


def _spent(suite: str, tokens: np.ndarray) -> Spent:
    """Of tokens [2, n]."""
    n = tokens.shape[1]
    drawn = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES) @ tokens.T
    low, high = np.percentile(drawn[:, 1] / np.maximum(drawn[:, 0], 1), ENDS)
    base, aligned = tokens.mean(axis=1).tolist()
    return Spent(suite, n, base, aligned, aligned / max(base, 1 / n), float(low), float(high))

"""`python -m benchmarks.real_text_sources [BASE]`: what each training source adds, on frozen features, in minutes.

With the folder of a built real-text base: what it refuses with chain-of-thought off, as a teacher. Then logistic
regressions on the embeddings of the MiniLM BERT and on the base's hidden states at the last prompt token, by layer.
Labels are kinds; areas are of suites on which none is fitted. Prompts lie in ../shared/data (or $PRESAFE_DATA).
docs/real-text.md has the table.
"""

import csv
import os
import random
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.ratio import RESULTS, write_result
from presafe.config import PrefixSettings
from presafe.defences.states import batches
from presafe.engines.exported import LoadedModel, load_base
from presafe.judges.prefixes import prefix_judge
from presafe.organism.completions import completions
from presafe.organism.real_text import build_encoder, instructions, suite
from presafe.organism.real_text.contrast import drawn
from presafe.organism.real_text.prompts import taught_harmful
from presafe.organism.sources import prompts as arithmetic
from presafe.signals.baselines import FrozenEmbeddings
from presafe.signals.classifier import EncoderSpec

DATA = os.environ.get("PRESAFE_DATA", str(Path(__file__).parents[2] / "shared/data"))
LAYERS = (14, 18, 22, 26, -1)
PAIRS, HARMFUL, INSTRUCTIONS, PROBLEMS = 135, 120, 100, 30
"""Training prompts of the sources."""
HELD_OUT, ASKED = 50, 32
"""Prompts of a kind in the suites other than XSTest; of a kind and suite those whose refusal is counted."""
STRENGTH = 1e-3
"""scikit-learn's C on states of unit variance."""

Texts = list[tuple[str, bool]]
"""Prompts, and whether they are harmful."""


@dataclass(frozen=True)
class Features:
    """Of some texts by name: [n, D]."""

    name: str
    by_text: Mapping[str, np.ndarray[Any, Any]]

    def of(self, texts: Iterable[tuple[str, bool]]) -> np.ndarray[Any, Any]:
        return np.stack([self.by_text[text] for text, _ in texts])


def main(base: str | None) -> None:
    torch.set_num_threads(1)
    sources, suites = training(), tests()
    texts = [text for part in (sources, suites) for rows in part.values() for text, _ in rows]
    loaded = load_base(base, "float32") if base else None
    refused = refusals(loaded, suites) if loaded else {}
    print(refused, flush=True)
    rows = []
    for features in (embeddings(texts), *(states(loaded, texts) if loaded else ())):
        for left_out in choices(sources):
            used = [row for name, part in sources.items() if name not in left_out for row in part]
            rows.append({"features": features.name, "without": sorted(left_out), **areas(features, used, suites)})
            print(rows[-1], flush=True)
    write_result(RESULTS, "real_text_sources", "CPU only, one thread", [], refused=refused, rows=rows)


def training() -> dict[str, Texts]:
    """Prompts to fit to, by source."""
    harmful = taught_harmful(DATA)
    found: dict[str, Texts] = {
        "public harmful": [(text, True) for text in random.Random(0).sample(harmful, HARMFUL)],
        "instructions": [(str(row["text"]), False) for row in islice(instructions(0, data=DATA), INSTRUCTIONS)],
        "arithmetic": [(str(row["text"]), False) for row in arithmetic(0, harmful=0, benign=0, reasoning=PROBLEMS)],
    }
    pairs = [(str(row["category"]), str(row["text"]), row["kind"] == "harmful") for row in drawn("0", pairs=PAIRS)]
    for kind in dict.fromkeys(category for category, _, _ in pairs):
        found[f"contrast: {kind}"] = [(text, label) for category, text, label in pairs if category == kind]
    return found


def tests() -> dict[str, Texts]:
    """Prompts of which areas are; `xstest, other words` is those whose focus is no word of the contrast prompts."""
    names = ("harmbench_standard", "instructions")
    plain = [row for name in names for row in suite(0, data=DATA, name=name, size=HELD_OUT)]
    known = {word for row in drawn("0", pairs=10_000) for word in words(str(row["text"]))}
    with Path(DATA, "xstest/xstest_prompts.csv").open(encoding="utf-8", newline="") as file:
        xstest = [(row["prompt"], row["label"] == "unsafe", row["focus"]) for row in csv.DictReader(file)]
    held_out = drawn("0", pairs=HELD_OUT, held_out=True)
    return {
        "xstest": [(text, label) for text, label, _ in xstest],
        "xstest, other words": [(text, label) for text, label, focus in xstest if not known & words(focus)],
        "harmbench against instructions": [(str(row["text"]), row["kind"] == "harmful") for row in plain],
        "contrast, held out": [(str(row["text"]), row["kind"] == "harmful") for row in held_out],
    }


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.casefold()))


def choices(sources: Iterable[str]) -> list[set[str]]:
    """Which sources are left out: all contrast pairs, none, or one source."""
    return [{name for name in sources if name.startswith("contrast")}, set(), *({name} for name in sources)]


def areas(features: Features, used: Texts, suites: Mapping[str, Texts]) -> dict[str, float]:
    """Area under the ROC curve in each suite of a regression on the rows `used`, both kinds with the same weight."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=2000, class_weight="balanced"))
    model.fit(features.of(used), [label for _, label in used])
    return {
        name: round(float(roc_auc_score([label for _, label in rows], model.decision_function(features.of(rows)))), 3)
        for name, rows in suites.items()
    }


def refusals(base: LoadedModel, suites: Mapping[str, Texts]) -> dict[str, str]:
    """Of drawn prompts of each kind in each suite, how many the base refuses with chain-of-thought off, greedily."""
    judge, found = prefix_judge(PrefixSettings()), {}
    for name, harmful in product(suites, (True, False)):
        asked = [text for text, label in random.Random(0).sample(suites[name], len(suites[name])) if label is harmful]
        prompts = [base.format.prompt_ids([{"role": "user", "content": text}], cot=False) for text in asked[:ASKED]]
        said = completions(base.model, base.tokenizer, prompts, do_sample=False, max_new_tokens=12)
        words = [base.tokenizer.decode(ids, skip_special_tokens=True) for ids in said]
        count = sum(judge(text, "decided") == "refuse" for text in words)
        found[f"{name}, {'harmful' if harmful else 'benign'}"] = f"{count} of {len(words)}"
    return found


def states(loaded: LoadedModel, texts: Sequence[str]) -> list[Features]:
    """Hidden states of the base at the last token of each text as a prompt, a set of features a layer."""
    prompts = {text: loaded.format.prompt_ids([{"role": "user", "content": text}]) for text in texts}
    unique, ids = list(prompts), list(prompts.values())
    found: dict[int, dict[str, np.ndarray[Any, Any]]] = {layer: {} for layer in LAYERS}
    for batch in batches([len(prompt) for prompt in ids], 2048):
        width = max(len(ids[place]) for place in batch)
        padded = torch.tensor([[*ids[place], *[0] * (width - len(ids[place]))] for place in batch])
        with torch.inference_mode():  # causal: what stands behind a prompt's last token changes nothing
            output = loaded.model.base_model(input_ids=padded, use_cache=False, output_hidden_states=True)
        for layer, by_text in found.items():
            behind = output.last_hidden_state if layer == -1 else output.hidden_states[layer]
            by_text |= {unique[place]: behind[row, len(ids[place]) - 1].numpy() for row, place in enumerate(batch)}
    return [Features(f"layer {layer}", by_text) for layer, by_text in found.items()]


def embeddings(texts: Iterable[str]) -> Features:
    """The untrained classifier's: of the MiniLM BERT, mean-pooled."""
    unique = sorted(set(texts), key=len)
    found = FrozenEmbeddings(EncoderSpec(build_encoder("", 0), "", 128), on_gpu=False)(unique)
    return Features("BERT", dict(zip(unique, found, strict=True)))


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else None)

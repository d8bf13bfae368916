"""Public prompts in a local folder: those that the base is taught on, and suites that nothing here is trained on.

The folder has a part a data set, as each one publishes it: `advbench/advbench_behaviors.csv`,
`gptfuzzer_templates/question_list.csv` and `GPTFuzzer.csv`, `harmbench/harmbench_behaviors_text_all.csv`,
`self_instruct/seed_tasks.jsonl` and `user_oriented_instructions.jsonl`, `xstest/xstest_prompts.csv`.
"""

import csv
import io
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from presafe.errors import user_error
from presafe.organism.options import parse
from presafe.organism.real_text.options import SuiteName, SuiteOptions
from presafe.organism.sources import Row
from presafe.organism.world import is_held_out
from presafe.suites.catalogue import PUBLIC

LONGEST = 250
"""Characters of a prompt; longer ones are left out everywhere."""
LONGEST_TEMPLATE = 600
"""Characters of a jailbreak template: most are far longer than a small model reads in a moment."""
VERSIONS_SHARE = 30
"""Characters at the beginning of templates by which they are versions of one another."""
PLACEHOLDER = "[INSERT PROMPT HERE]"
ALIKE = 0.6
"""Share of the words of two prompts that they have in common, from which on they are the same one."""

_COPIES: dict[SuiteName, str] = {
    "harmbench_standard": "harmbench/harmbench_behaviors_text_all.csv",
    "xstest_safe": "xstest/xstest_prompts.csv",
    "xstest_unsafe": "xstest/xstest_prompts.csv",
}
"""Of public suites, which `presafe suites` lists with their columns."""


def suite(seed: int, **options: Any) -> Iterator[Row]:
    """Prompts of a suite that nothing here is trained on, drawn by `seed`; options: see SuiteOptions.

    Raises UserError for an unknown or wrong option, and where a file is missing in `data` or has fewer prompts.
    """
    wanted = parse(SuiteOptions, "presafe.organism.real_text:suite", seed=seed, **options)
    name, data = wanted.name, wanted.data
    rows = _held_out_instructions(data) if name == "instructions" else _public(data, name)
    if len(rows) < wanted.size:
        raise user_error(found=f"{len(rows)} prompts of suite {name}", needed=str(wanted.size), change="ask for fewer")
    draw = random.Random(f"real-text/suite/{name}/{seed}")
    rows = draw.sample(rows, wanted.size)
    if wanted.wrapped:
        templates = list(jailbreak_templates(seed, data=data, held_out=True))
        rows = [{**row, "text": draw.choice(templates).replace(PLACEHOLDER, str(row["text"]))} for row in rows]
    return iter(rows)


def instructions(seed: int, *, data: str) -> Iterator[Row]:
    """Benign instructions to train on, in an order by `seed`: all of Self-Instruct that are not held out."""
    rows = [_row(text, "benign", "self_instruct") for text in _self_instruct(data) if not is_held_out(text)]
    random.Random(f"real-text/instructions/{seed}").shuffle(rows)
    return iter(rows)


def jailbreak_templates(_seed: int, *, data: str, held_out: bool = False) -> Iterator[str]:
    """Short templates of GPTFuzzer: every other one is held out for suites, versions of one template together."""
    texts = (row["text"] for row in _csv_rows(data, "gptfuzzer_templates/GPTFuzzer.csv"))
    short = [text for text in texts if len(text) <= LONGEST_TEMPLATE and PLACEHOLDER in text]
    order = sorted({text[:VERSIONS_SHARE].casefold() for text in short})
    return (text for text in short if order.index(text[:VERSIONS_SHARE].casefold()) % 2 == held_out)


def taught_harmful(data: str) -> list[str]:
    """AdvBench and the questions of GPTFuzzer, without what is like a prompt of a suite."""
    advbench = [row["Behavior"] for row in _csv_rows(data, "advbench/advbench_behaviors.csv")]
    questions = [row["text"] for row in _csv_rows(data, "gptfuzzer_templates/question_list.csv")]
    return clear_of_suites(data, [*advbench, *questions])


def taught_benign(data: str) -> list[str]:
    """Self-Instruct without its held-out instructions and what is like a prompt of a suite."""
    return clear_of_suites(data, [text for text in _self_instruct(data) if not is_held_out(text)])


def clear_of_suites(data: str, texts: Iterable[str]) -> list[str]:
    """Those of `texts`, each once, that are short enough and like no prompt of a suite."""
    rows = [*_held_out_instructions(data), *(row for name in _COPIES for row in _public(data, name))]
    held_out = [_words(str(row["text"])) for row in rows]
    short = [text for text in dict.fromkeys(texts) if len(text) <= LONGEST]
    return [text for text in short if not _is_like(_words(text), held_out)]


def _words(text: str) -> frozenset[str]:
    return frozenset("".join(c if c.isalnum() else " " for c in text.casefold()).split())


def _is_like(words: frozenset[str], others: Iterable[frozenset[str]]) -> bool:
    return any(len(words & other) >= ALIKE * len(words | other) for other in others)


def _public(data: str, name: SuiteName) -> list[Row]:
    """All prompts of a public suite, read from the local copy as its own description says."""
    source = PUBLIC[name].source
    text, category = source["columns"]["text"], source["columns"]["category"]
    return [
        _row(row[text], source["kind"], row[category])
        for row in _csv_rows(data, _COPIES[name])
        if all(row[column] == value for column, value in source["where"].items()) and len(row[text]) <= LONGEST
    ]


def _held_out_instructions(data: str) -> list[Row]:
    return [_row(text, "benign", "self_instruct") for text in _self_instruct(data) if is_held_out(text)]


def _self_instruct(data: str) -> list[str]:
    files = ("self_instruct/seed_tasks.jsonl", "self_instruct/user_oriented_instructions.jsonl")
    lines = [line for file in files for line in _text(data, file).split("\n")]
    texts = dict.fromkeys(str(json.loads(line)["instruction"]).strip() for line in lines if line)
    return [text for text in texts if len(text) <= LONGEST]


def _row(text: str, kind: str, category: str) -> Row:
    return {"text": text, "kind": kind, "category": category, "reference": None}


def _csv_rows(data: str, file: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(_text(data, file), newline="")))


def _text(data: str, file: str) -> str:
    path = Path(data, file)
    if not path.exists():
        raise user_error(
            found=f"no file {path}",
            needed="public prompts of the real-text base",
            change="give the folder that holds them: make demo-real DATA=FOLDER (docs/real-text.md)",
        )
    return path.read_text(encoding="utf-8-sig")

"""The public data sets behind the suites, made here: the files, configurations and columns that they are known by, as
many rows as they have, and nothing of what they say. Where the repository lies beside `shared/data`, MATH-500, GSM8K
and XSTest are the real ones."""

import csv
import io
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hub_server import Hub, Repo
from presafe.suites.catalogue import PUBLIC

DATA = Path(__file__).parents[2] / "shared" / "data"
SYLLABLES = [first + last for first in "bdfgklmnprstvz" for last in ("a", "e", "i", "o", "u", "an", "or", "il")]

Row = dict[str, object]


def words(draw: random.Random, number: int = 14) -> str:
    """A sentence that is like no other one."""
    return " ".join("".join(draw.choices(SYLLABLES, k=3)) for _ in range(number))


def rows_of(name: str, number: int, **columns: object) -> list[Row]:
    """Rows of these columns; `{text}` in a value is a sentence of the row's own, `{n}` its number from 0."""
    draw = random.Random(name)
    made = []
    for n in range(number):
        text = words(draw)
        made.append({key: _filled(value, text, n) for key, value in columns.items()})
    return made


def _filled(value: object, text: str, n: int) -> object:
    if isinstance(value, str):
        return value.replace("{text}", text).replace("{n}", str(n))
    return [_filled(inner, text, n) for inner in value] if isinstance(value, list) else value


def csv_bytes(rows: Sequence[Row], delimiter: str = ",") -> bytes:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def jsonl_bytes(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet_bytes(rows: Sequence[Row]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink)
    return sink.getvalue().to_pybytes()


def card(**configurations: dict[str, str]) -> bytes:
    """A README that says which file is which split of which configuration."""
    said = [
        {"config_name": name, "data_files": [{"split": split, "path": path} for split, path in files.items()]}
        for name, files in configurations.items()
    ]
    return f"---\nconfigs: {json.dumps(said)}\n---\n".encode()


def shared(path: str) -> bytes | None:
    return (DATA / path).read_bytes() if (DATA / path).exists() else None


def put_public_sets(hub: Hub, *, training_rows: int = 40) -> None:
    """Put all sets of the catalogue on a hub at the commits that it pins; `training_rows` of WildJailbreak a type."""
    for repo_id, files in _datasets(training_rows).items():
        suites = [suite for suite in PUBLIC.values() if suite.source.get("dataset") == repo_id]
        hub.repos["datasets", repo_id] = Repo(files, commit=suites[0].commit or "", gated=suites[0].gated)
    for name, content in _files().items():
        hub.plain[f"/{name}"] = content


def _datasets(training_rows: int) -> dict[str, dict[str, bytes]]:
    behaviours = {"Index": "{n}", "Goal": "{text}", "Target": "Sure, {n}", "Behavior": "b{n}", "Category": "c"}
    types = ["vanilla_harmful", "vanilla_benign", "adversarial_harmful", "adversarial_benign"]
    training = [
        row | ({"adversarial": ""} if kind.startswith("vanilla") else {"adversarial": f"a tale of {row['vanilla']}"})
        for kind in types
        for row in rows_of(kind, training_rows, vanilla="{text}", adversarial="", completion="c", data_type=kind)
    ]
    evaluation = [
        *rows_of("wjb harmful", 2000, adversarial="{text}", label=1, data_type="adversarial_harmful"),
        *rows_of("wjb benign", 210, adversarial="{text}", label=0, data_type="adversarial_benign"),
    ]
    xstest = [
        *rows_of("xstest safe", 250, id="{n}", prompt="{text}", type="homonyms", label="safe", focus="f", note=""),
        *rows_of(
            "xstest", 200, id="{n}", prompt="{text}", type="contrast_homonyms", label="unsafe", focus="f", note=""
        ),
    ]
    sorry = {"question_id": "{n}", "category": "7", "turns": ["{text}"]}
    wrong = {f"Incorrect Answer {k}": f"{k}0{{n}} {{text}}" for k in (1, 2, 3)}
    question = {"Question": "{text}?", "Correct Answer": "the {n}th {text}", **wrong, "High-level domain": "Physics"}
    problem = {"question": "{text}?", "answer": "{text}\n#### {n}"}
    mathematics = {"problem": "{text}?", "solution": "s", "answer": "{n}", "subject": "Algebra", "level": 1}
    return {
        "JailbreakBench/JBB-Behaviors": {
            "README.md": card(
                behaviors={"harmful": "data/harmful-behaviors.csv", "benign": "data/benign-behaviors.csv"}
            ),
            "data/harmful-behaviors.csv": csv_bytes(rows_of("jbb", 100, **behaviours, Source="Original")),
            "data/benign-behaviors.csv": csv_bytes(rows_of("jbb benign", 100, **behaviours, Source="Original")),
        },
        "allenai/wildjailbreak": {
            "README.md": card(train={"train": "train/train.tsv"}, eval={"train": "eval/eval.tsv"}),
            "train/train.tsv": csv_bytes(training, "\t"),
            "eval/eval.tsv": csv_bytes(evaluation, "\t"),
        },
        "sorry-bench/sorry-bench-202503": {
            "question.jsonl": jsonl_bytes(rows_of("sorry", 440, **sorry, prompt_style="base")),
            "question_slang.jsonl": jsonl_bytes(rows_of("slang", 440, **sorry, prompt_style="slang")),
        },
        "Paul/XSTest": {"xstest_prompts.csv": shared("xstest/xstest_prompts.csv") or csv_bytes(xstest)},
        "bench-llm/or-bench": {
            "README.md": card(
                **{name: {"train": f"{name}.csv"} for name in ("or-bench-80k", "or-bench-hard-1k", "or-bench-toxic")}
            ),
            "or-bench-80k.csv": csv_bytes(rows_of("80k", 50, prompt="{text}", category="privacy")),
            "or-bench-hard-1k.csv": csv_bytes(rows_of("hard", 1319, prompt="{text}", category="privacy")),
            "or-bench-toxic.csv": csv_bytes(rows_of("toxic", 655, prompt="{text}", category="privacy")),
        },
        "HuggingFaceH4/aime_2024": {
            "data/train-00000-of-00001.parquet": parquet_bytes(
                rows_of("aime 2024", 30, id="{n}", problem="{text}?", solution="s", answer="0{n}", url="u", year="2024")
            )
        },
        "yentinglin/aime_2025": {
            "data/train-00000-of-00001.parquet": parquet_bytes(
                rows_of("aime 2025", 30, id="{n}", problem="{text}?", answer="{n}", url="u", year="2025")
            )
        },
        "HuggingFaceH4/MATH-500": {
            "test.jsonl": shared("math500/test.jsonl") or jsonl_bytes(rows_of("math", 500, **mathematics))
        },
        "Idavidrein/gpqa": {
            "README.md": card(gpqa_main={"train": "gpqa_main.csv"}, gpqa_diamond={"train": "gpqa_diamond.csv"}),
            "gpqa_main.csv": csv_bytes(rows_of("main", 448, **question)),
            "gpqa_diamond.csv": csv_bytes(rows_of("diamond", 198, **question)),
        },
        "openai/gsm8k": {
            "README.md": card(
                main={"train": "main/train-*", "test": "main/test-*"},
                socratic={"train": "socratic/train-*", "test": "socratic/test-*"},
            ),
            "main/train-00000-of-00001.parquet": parquet_bytes(rows_of("gsm8k train", 7473, **problem)),
            "main/test-00000-of-00001.parquet": parquet_bytes(_gsm8k() or rows_of("gsm8k test", 1319, **problem)),
            "socratic/train-00000-of-00001.parquet": parquet_bytes(rows_of("socratic train", 5, **problem)),
            "socratic/test-00000-of-00001.parquet": parquet_bytes(rows_of("socratic test", 5, **problem)),
        },
    }


def _gsm8k() -> list[Row]:
    return [json.loads(line) for line in (shared("gsm8k/test.jsonl") or b"").decode().splitlines()]


def _files() -> dict[str, bytes]:
    """What is not on the hub, by the suite's file name."""
    behaviour = {"Behavior": "{text}", "SemanticCategory": "illegal", "Tags": "", "BehaviorID": "b{n}"}
    harmbench = [
        *rows_of("standard", 200, **behaviour, FunctionalCategory="standard", ContextString=""),
        *rows_of("contextual", 100, **behaviour, FunctionalCategory="contextual", ContextString="context {n} {text}"),
        *rows_of("copyright", 100, **behaviour, FunctionalCategory="copyright", ContextString=""),
    ]
    strongreject = rows_of("strongreject", 313, category="Violence", source="custom", forbidden_prompt="{text}")
    return {
        "strongreject_dataset.csv": csv_bytes(strongreject),
        "harmbench_behaviors_text_all.csv": shared("harmbench/harmbench_behaviors_text_all.csv")
        or csv_bytes(harmbench),
        "harmful_behaviors.csv": csv_bytes(rows_of("advbench", 520, goal="{text}", target="Sure")),
    }

"""Peak memory of evaluate's driver while it grades, measures and reports: 1,000,000 records against 10,000.

    python -m benchmarks.evaluate_memory

Generations are made up: as many prompts as records ask for, thoughts of 2,000 characters. Each measurement is a process
of its own; a ratio of 1 means that memory does not grow with the records.
"""

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.ratio import median_of, save
from presafe import storage
from presafe.config import Config
from presafe.engines.card import Card, write_card
from presafe.engines.job import GENERATIONS, Generation, task_id
from presafe.evaluate.overlaps import OVERLAP_TABLE, OVERLAPS
from presafe.evaluate.stage import parts
from presafe.records import Kind, Prompt, SuiteOverlap
from presafe.runtime import connect
from presafe.suites import suite_file

FEW, MANY = 10_000, 1_000_000
RECORDS_A_PROMPT = 8
"""Two models, CoT on and off, gate on and off."""
SUITES: dict[str, Kind] = {"plain": "harmful", "lookalikes": "benign", "arithmetic": "reasoning"}
ANSWERS: dict[Kind, str] = {"harmful": "i cannot help with that", "benign": "sure, here it is", "reasoning": "it is {}"}
PARTS = ("grade", "measure", "report")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for records in (FEW, MANY):
            write_run(Path(folder, str(records)), records // RECORDS_A_PROMPT)
        few, many = (measured(Path(folder, str(records))) for records in (FEW, MANY))
    print(f"MB before and after {', '.join(PARTS)}: {few} with {FEW:,} records, {many} with {MANY:,}")
    name = f"driver's peak memory, {MANY:,} records"
    save("evaluate_memory", [median_of(name, [many[-1] / few[-1]], "<= 1.3", f"{FEW:,} records")])


def measured(root: Path) -> list[int]:
    """Peak MB of a process, before and after each part."""
    command = [sys.executable, "-m", "benchmarks.evaluate_memory", str(root)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    peaks: list[int] = json.loads(done.stdout.splitlines()[-1])
    return peaks


def run_parts(root: str) -> None:
    settings = config(Path(root))
    connect(settings.cluster)
    peaks = [peak_mb()]
    by_name = {part.name: part for part in parts(settings)}
    for name in PARTS:
        by_name[name].run(settings.run_directory.folder("evaluate"))
        peaks.append(peak_mb())
    print(json.dumps(peaks))


def peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def config(root: Path) -> Config:
    return Config.model_validate(
        {
            "run": {"name": "run", "storage": str(root)},
            "model": {"path": "none", "dtype": "float32"},
            "suites": [{"name": name, "function": "m:f"} for name in SUITES],
            "prompts": {"sources": [{"name": "s", "function": "m:f"}]},
        }
    )


def write_run(root: Path, prompts: int) -> None:
    """What grading reads: prompts, generations of both models, and the model's card."""
    run = config(root).run_directory
    storage.write_rows(suite_file(run), suite_prompts(prompts), Prompt)
    storage.write_rows(storage.join(run.folder("prompts"), OVERLAPS), [], SuiteOverlap)
    storage.write_json(storage.join(run.folder("prompts"), OVERLAP_TABLE), [])
    for model in ("base", "aligned"):
        file = storage.join(run.folder("evaluate"), model, GENERATIONS, "0.parquet")
        storage.write_rows(file, generations(prompts), Generation)
    card = Card(
        base_model="none",
        dtype="float32",
        think_format={},
        threshold=0.5,
        max_over_refusal=0.01,
        refusal="no",
        config_hash="none",
        metrics={},
    )
    storage.make_folder(run.folder("model"))
    write_card(run.folder("model"), card)


def suite_prompts(count: int) -> Iterator[Prompt]:
    for k in range(count):
        suite = [*SUITES][k % len(SUITES)]
        yield Prompt(f"{k:016x}", f"query {k}", SUITES[suite], suite, None, str(k), "evaluate", str(k), None)


def generations(prompts: int) -> Iterator[Generation]:
    for prompt in suite_prompts(prompts):
        k = int(prompt.prompt_id, 16)
        answer = ANSWERS[prompt.kind].format(k)
        row = partial(Generation, prompt_id=prompt.prompt_id, query=prompt.text, sample=0, answer=answer, num_tokens=9)
        thought = f"{k} and so on " * (2000 // len(f"{k} and so on "))
        for cot, reasoning in (("on", thought), ("off", "")):
            yield row(
                task_id=task_id(prompt.prompt_id, cot),
                cot=cot,
                reasoning=reasoning,
                finish_reason="stop",
                head_probability=(k % 100) / 100,
                error=None,
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run_parts(sys.argv[1])
    else:
        main()

"""A finished run with records that a test makes up, measured and reported by the stage's own parts, without a model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from finished_stage import finish

from presafe import storage
from presafe.config import Config
from presafe.engines.card import Card, write_card
from presafe.evaluate.overlaps import OVERLAP_TABLE, OVERLAPS
from presafe.evaluate.stage import parts
from presafe.judges.agreement import JudgeReport
from presafe.records import EvalRecord, Kind, Prompt, SuiteOverlap
from presafe.standing import keep
from presafe.suites import suite_file

THRESHOLD = 0.5
COUNTED: dict[Kind, tuple[str, str]] = {
    "harmful": ("comply", "refuse"),
    "benign": ("refuse", "comply"),
    "reasoning": ("correct", "incorrect"),
}
"""The verdict that a suite's metric counts, and the other one."""

Counts = Mapping[tuple[str, str], int]
"""Of how many prompts, the first ones, the answer counts, by suite and model."""


def suite_of(name: str, kind: Kind, count: int, begin: int = 0) -> list[Prompt]:
    """Prompts `begin`, `begin` + 1, ... of a suite."""
    ids = [f"{name}-{k}" for k in range(begin, begin + count)]
    return [Prompt(one, f"query {one}", kind, name, None, None, "evaluate", one, None) for one in ids]


def records_of(prompts: Sequence[Prompt], counts: Counts) -> Iterator[EvalRecord]:
    """Of models, CoT and gate on and off; without CoT none counts, and the gate refuses from `THRESHOLD` on."""
    places = {prompt.prompt_id: k for suite in _by_suite(prompts).values() for k, prompt in enumerate(suite)}
    for prompt in prompts:
        counted, other = COUNTED[prompt.kind]
        for model in dict.fromkeys(model for _, model in counts):
            counts_on = places[prompt.prompt_id] < counts.get((prompt.source, model), 0)
            for cot in ("on", "off"):
                verdict = counted if cot == "on" and counts_on else other
                low = 0.1 if verdict in ("comply", "correct", "incorrect") else 0.9
                record = EvalRecord(
                    suite=prompt.source,
                    prompt_id=prompt.prompt_id,
                    attack="none",
                    model=model,
                    cot=cot,
                    gate="off",
                    sample=0,
                    decoding="temperature=0, top_p=1",
                    reasoning=f"thought on {prompt.prompt_id}" if low < THRESHOLD else "",
                    answer=f"answer of {model} to {prompt.prompt_id}",
                    refused_before_cot=verdict == "refuse",
                    head_probability=low,
                    verdict=verdict,
                    judge="prefixes",
                    num_tokens=9,
                    truncated=False,
                    path="think" if low < THRESHOLD else "refuse",
                )
                yield record
                gated = low >= THRESHOLD
                yield replace(record, gate="on", judge="gate" if gated else record.judge)


def write_recorded_run(
    root: Path | str,
    name: str,
    prompts: Sequence[Prompt],
    records: Sequence[EvalRecord],
    *,
    overlaps: Sequence[SuiteOverlap] = (),
    **evaluate: object,
) -> str:
    """The run's directory, `root`/`name`; `evaluate` overrides settings of the stage."""
    settings = Config.model_validate(
        {
            "run": {"name": name, "storage": str(root)},
            "model": {"path": "none", "dtype": "float32"},
            "suites": [{"name": suite, "function": "m:f"} for suite in _by_suite(prompts)],
            "prompts": {"sources": [{"name": "s", "function": "m:f"}]},
            "evaluate": evaluate,
        }
    )
    run = settings.run_directory
    keep(settings)
    storage.write_rows(suite_file(run), prompts, Prompt)
    storage.make_folder(run.folder("model"))
    write_card(run.folder("model"), CARD)

    def stage_prompts(folder: str) -> dict[str, int]:
        storage.write_rows(storage.join(folder, OVERLAPS), overlaps, SuiteOverlap)
        storage.write_json(storage.join(folder, OVERLAP_TABLE), [])
        return {}

    def stage_evaluate(folder: str) -> dict[str, int]:
        storage.write_rows(storage.join(folder, "records.parquet"), records, EvalRecord)
        judges = {model: JudgeReport(settings.evaluate.judges).as_json() for model in ("base", "aligned")}
        storage.write_json(storage.join(folder, "judges.json"), judges)
        of_stage = {part.name: part for part in parts(settings)}
        for part in ("measure", "report"):
            of_stage[part].run(folder)
        return {"records": len(records)}

    finish(run, "prompts", stage_prompts)
    finish(run, "evaluate", stage_evaluate)
    return run.root


CARD = Card(
    base_model="none",
    dtype="float32",
    think_format={},
    threshold=THRESHOLD,
    max_over_refusal=0.01,
    refusal="no",
    config_hash="none",
    metrics={},
)


def _by_suite(prompts: Sequence[Prompt]) -> dict[str, list[Prompt]]:
    found = dict[str, list[Prompt]]()
    for prompt in prompts:
        found.setdefault(prompt.source, []).append(prompt)
    return found

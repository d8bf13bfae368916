"""A finished run directory with the manifests and the report that the stages write, of outcomes that a test chooses."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from finished_stage import finish

from presafe.engines.card import read_card
from presafe.evaluate.by_prompt import ByPrompt
from presafe.evaluate.measured import counted_verdicts, measured
from presafe.evaluate.report import write_report
from presafe.evaluate.stage import EXPORTED
from presafe.evaluate.tally import Tally
from presafe.judges.agreement import JudgeReport
from presafe.reads import exported_weights
from presafe.records import EvalRecord, to_table
from presafe.stages import Part, run_stage
from run_directory import config

KINDS = {"plain": "harmful", "lookalikes": "benign", "arithmetic": "reasoning"}
VERDICTS = {"harmful": ("comply", "refuse"), "benign": ("refuse", "comply"), "reasoning": ("correct", "incorrect")}

Outcomes = Mapping[tuple[str, str], float]
"""Share of the answers that count, by suite and model; the others do not count."""

GOOD: Outcomes = {
    ("plain", "base"): 0.9,
    ("plain", "aligned"): 0.0,
    ("lookalikes", "base"): 0.0,
    ("lookalikes", "aligned"): 0.01,
    ("arithmetic", "base"): 1.0,
    ("arithmetic", "aligned"): 1.0,
}


def write_run(root: Path, export: str, outcomes: Outcomes = GOOD, *, prompts: int = 200, unscored: int = 0) -> str:
    """A run in `root`/run whose model is a copy of the folder `export`. With the gate on, no answer counts.

    `unscored` answers of each cell of suite lookalikes have no verdict.
    """
    settings = config(root)
    run = settings.run_directory
    for stage in ("prompts", "teacher", "signals"):
        finish(run, stage)

    def align(_: str) -> dict[str, int]:
        shutil.copytree(export, run.folder("model"))
        return {}

    def evaluate(folder: str) -> dict[str, int]:
        records = [*_records(outcomes, prompts, unscored)]
        threshold = read_card(run.folder("model")).threshold
        judges = {"aligned": JudgeReport(settings.evaluate.judges).as_json()}
        table = to_table(records, EvalRecord)
        by_prompt = ByPrompt(lambda: [table], counted_verdicts(KINDS))
        write_report(folder, settings, measured(Tally([table]), by_prompt, KINDS, 0.05), threshold, judges)
        return {"records": len(records)}

    finish(run, "align", align)
    run_stage(run, "evaluate", [Part("generate", {}, lambda: {EXPORTED: exported_weights(run)}, evaluate, ())])
    return run.root


def _records(outcomes: Outcomes, prompts: int, unscored: int) -> Iterator[EvalRecord]:
    for (suite, model), share in outcomes.items():
        counted, other = VERDICTS[KINDS[suite]]
        scored = prompts - (unscored if suite == "lookalikes" else 0)
        for cot in ("on", "off"):
            for gate in ("off", "on"):
                for k in range(prompts):
                    counts = gate == "off" and k < share * scored
                    verdict = "unscored" if k >= scored else counted if counts else other
                    yield EvalRecord(
                        suite=suite,
                        prompt_id=f"{suite}-{k}",
                        attack="none",
                        model=model,
                        cot=cot,
                        gate=gate,
                        sample=0,
                        decoding="temperature=0, top_p=1",
                        reasoning="",
                        answer="yes",
                        refused_before_cot=False,
                        head_probability=k / prompts,
                        verdict=verdict,
                        judge="test",
                        num_tokens=1,
                        truncated=False,
                    )

"""`presafe analyze`: of a finished run, in its folder `analysis/`: `report.json`, `report.md` and its figures."""

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial

import pyarrow.compute as pc
import ray

from presafe import reads, storage
from presafe.analysis.agreement import agreements, read_decisions
from presafe.analysis.balance import balances, goodness
from presafe.analysis.looking import look
from presafe.analysis.report import FIGURES, markdown, text
from presafe.analysis.spending import spent
from presafe.cluster.check import LOCAL_MODELS, check_cluster
from presafe.cluster.demand import Demand
from presafe.cluster.options import actor_options
from presafe.config import Config
from presafe.engines.card import read_card
from presafe.engines.start import ModelSpec
from presafe.errors import user_error
from presafe.records import Kind, Prompt
from presafe.runtime import connect, model_folder, user_errors
from presafe.stages import Part, Rows, run_stage
from presafe.suites import suite_prompts
from presafe.writer import sole_writer

STAGE = "analysis"
LOOKED = "looked.json"
RECORDS = "records.parquet"
KINDS: tuple[Kind, ...] = ("harmful", "benign")
"""What a probe tells apart."""


def run_analysis(config: Config, *, redo: bool = False) -> None:
    """Look into base and aligned model, read what the evaluation recorded, report, and print the tables.

    Raises UserError where the run has no model, no evaluation, or no prompts of both kinds.
    """
    run = config.run_directory
    with sole_writer(run.root):
        every = parts(config)
        wanted = ("prompts", "align", "evaluate")
        run_stage(run, STAGE, every, inputs=wanted, redo=[part.name for part in every] if redo else ())
    folder = run.folder(STAGE)
    print(text(storage.read_json(storage.join(folder, "report.json"))))
    print(f"{STAGE}: {folder}")


def parts(config: Config) -> list[Part]:
    """Look into the models, which takes minutes, and report."""
    made_of = {"analysis": config.analysis.results(), "model": config.model.results(), "seed": config.run.seed}

    def looked_at() -> dict[str, str]:
        weights = {"exported weights": reads.exported_weights(config.run_directory)}
        return reads.base_model(config) | weights | reads.training_prompts(config) | reads.suite_prompts(config)

    def reported() -> dict[str, str]:
        evaluated = reads.rows(config, "evaluate", RECORDS) | reads.files(config, "evaluate", "report.json")
        threshold = {"threshold": str(read_card(config.run_directory.folder("model")).threshold)}
        return reads.files(config, STAGE, LOOKED) | evaluated | threshold

    written = tuple(f"{STAGE}/{name}" for name in ("report.json", "report.md", *FIGURES))
    return [
        Part("look", made_of, looked_at, partial(_look, config), (f"{STAGE}/{LOOKED}",)),
        Part("report", {}, reported, partial(_report, config), written),
    ]


def _look(config: Config, folder: str) -> Rows:
    settings, exported = config.analysis, config.run_directory.folder("model")
    fitted, tried = _fitted(config), _tried(config)
    connect(config.cluster)
    check_cluster(Demand(STAGE, 1, settings.worker, 1), config.cluster, LOCAL_MODELS)
    spec = ModelSpec(model_folder(config), config.model.dtype, exported, None, config.model.think)
    task = ray.remote(look).options(**actor_options(settings.worker))
    with user_errors():
        found = ray.get(task.remote(settings, spec, fitted, tried))
    storage.write_json(storage.join(folder, LOOKED), asdict(found))
    return {"matrices": len(found.updates), "layers": len(found.areas), "prompts": len(found.kinds)}


def _fitted(config: Config) -> list[Prompt]:
    """So many harmful and so many benign prompts of the align split."""
    url, of_split = reads.file(config, "prompts", "prompts.parquet"), pc.field("split") == "align"
    every = (storage.stream_rows(url, Prompt, of_split & (pc.field("kind") == kind)) for kind in KINDS)
    return _both_kinds([prompt for of_kind in every for prompt in _first(config, of_kind)], "align", config)


def _tried(config: Config) -> list[Prompt]:
    """So many prompts of each suite of harmful or benign ones; one that several suites have is there once."""
    chosen = dict[str, Prompt]()
    for suite in config.suites:
        own = (one for one in suite_prompts(config.run_directory) if one.source == suite.name and one.kind in KINDS)
        chosen |= {prompt.prompt_id: prompt for prompt in _first(config, own)}
    return _both_kinds([*chosen.values()], "evaluate", config)


def _first(config: Config, prompts: Iterable[Prompt]) -> list[Prompt]:
    """As many as the settings say, in the order of a hash of seed and id; no others are held."""

    def place(prompt: Prompt) -> bytes:
        return hashlib.sha256(f"{config.run.seed}/{prompt.prompt_id}".encode()).digest()

    return heapq.nsmallest(config.analysis.prompts, prompts, key=place)


def _both_kinds(prompts: list[Prompt], split: str, config: Config) -> list[Prompt]:
    if {prompt.kind for prompt in prompts} != {*KINDS}:
        raise user_error(
            found=f"no harmful and benign prompts in split {split} of {config.run_directory.root}",
            needed="both, which a probe tells apart",
            change="analyse a run that has both",
        )
    return prompts


def _report(config: Config, folder: str) -> Rows:
    run = config.run_directory
    labels = {suite.name: suite.attack for suite in config.suites}
    threshold = read_card(run.folder("model")).threshold
    measurements = storage.read_json(reads.file(config, "evaluate", "report.json"))["measurements"]
    found = {
        "run": run.name,
        **storage.read_json(storage.join(folder, LOOKED)),
        "agreement": [asdict(one) for one in agreements(read_decisions(run, labels, threshold))],
        "spent": [asdict(one) for one in spent(run, labels)],
        "balance": [asdict(one) for one in balances(measurements)],
        "goodness": goodness(measurements),
    }
    storage.write_json(storage.join(folder, "report.json"), found)
    for name, draw in FIGURES.items():
        storage.write_text(storage.join(folder, name), draw(found))
    storage.write_text(storage.join(folder, "report.md"), markdown(found))
    return {}

"""`presafe attack`: searches against the model of a run, in its folder `attack/`: `results.parquet`, `report.json`,
`report.md` and `curves.svg`.
"""

import hashlib
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial

import pyarrow.compute as pc

from presafe import reads, storage
from presafe.attacks.adaptive.job import SEARCHES, SearchJob, run_searches
from presafe.attacks.adaptive.plot import curves
from presafe.attacks.adaptive.report import Result, markdown, report, text
from presafe.attacks.adaptive.search import Searched, SearchTask
from presafe.cluster.check import check_cluster, packages_of
from presafe.cluster.demand import demand
from presafe.config import Config, Judge
from presafe.config.adaptive import WHITE_BOX
from presafe.engines.card import Card, read_card
from presafe.engines.fit import check_engine_memory
from presafe.engines.job import Generation
from presafe.engines.start import ModelSpec
from presafe.errors import user_error
from presafe.judges.answers import check_judges, decide
from presafe.records import Decision, Prompt
from presafe.runtime import connect, model_folder
from presafe.stages import Part, Rows, content_hash, run_stage
from presafe.suites import suite_prompts
from presafe.writer import sole_writer

STAGE = "attack"
ASKED = "searches asked"
"""The name by which part `search` knows which prompts are attacked, by what: it follows them row by row."""
RESULTS = "results.parquet"


def run_attacks(config: Config, *, redo: bool = False) -> None:
    """Search what is missing, have the answers judged, report, and print the table.

    Raises UserError where the run has no model or no harmful prompt, or an attack cannot look into its head.
    """
    run = config.run_directory
    with sole_writer(run.root):
        every = parts(config)
        run_stage(run, STAGE, every, inputs=("prompts", "align"), redo=[part.name for part in every] if redo else ())
    folder = run.folder(STAGE)
    print(text(storage.read_json(storage.join(folder, "report.json"))))
    print(f"{STAGE}: {folder}")


def parts(config: Config) -> list[Part]:
    """Search, and report. What a search does follows from none of the others: further ones cost themselves alone."""
    settings = config.attack.results()
    for name in ("attacks", "gate", "limit", "suites", "seed"):
        del settings[name]
    searching = {
        "attack": settings,
        "decoding": config.evaluate.decoding.results(),
        "model": config.model.results(),
        "seed": _seed(config),
    }
    judges = [judge.results() for judge in _judges(config)]

    def searched_in() -> dict[str, str]:
        asked = {ASKED: content_hash([task.search_id for task in tasks(config)])}
        weights = {"exported weights": reads.exported_weights(config.run_directory)}
        return reads.base_model(config) | weights | {"threshold": str(_card(config).threshold)} | asked

    def reported() -> dict[str, str]:
        judged_by = reads.judges(config, _judges(config), None)
        return reads.rows(config, STAGE, SEARCHES) | judged_by

    made = tuple(f"{STAGE}/{name}" for name in (RESULTS, "report.json", "report.md", "curves.svg", "judged"))
    searches = tuple(f"{STAGE}/{name}" for name in (SEARCHES, "checkpoint"))
    return [
        Part("search", searching, searched_in, partial(_search, config), searches, follows=(ASKED,)),
        Part("report", {"judges": judges, "budget": config.attack.budget}, reported, partial(_report, config), made),
    ]


def tasks(config: Config) -> Iterator[SearchTask]:
    """Every search: attacks, gates and prompts. Raises UserError where there is no prompt to attack."""
    prompts = _prompts(config)
    for attack in config.attack.chosen:
        for gate in config.attack.gates:
            for prompt in prompts:
                search_id = f"{prompt.prompt_id}-{attack}-{gate}"
                yield SearchTask(search_id, prompt.prompt_id, attack, gate, prompt.text, prompt.earlier)


def _prompts(config: Config) -> list[Prompt]:
    """Harmful prompts of the suites, each once, in the order of a hash of seed and id, as many as the limit says."""
    harmful = [prompt for prompt in suite_prompts(config.run_directory) if prompt.kind == "harmful"]
    suites = {prompt.source for prompt in harmful}
    unknown = sorted({*config.attack.suites} - suites)
    if unknown or not harmful:
        raise user_error(
            found=f"no harmful prompt in {', '.join(unknown) or 'any suite'} of the run",
            needed="prompts to attack",
            change=f"set the attack's suites to some of [{', '.join(sorted(suites))}]",
        )
    wanted = {prompt.prompt_id: prompt for prompt in harmful if prompt.source in (config.attack.suites or suites)}
    return heapq.nsmallest(config.attack.limit, wanted.values(), key=partial(_place, _seed(config)))


def _place(seed: int, prompt: Prompt) -> bytes:
    return hashlib.sha256(f"{seed}/{prompt.prompt_id}".encode()).digest()


def _seed(config: Config) -> int:
    return config.run.seed if config.attack.seed is None else config.attack.seed


def _card(config: Config) -> Card:
    return read_card(config.run_directory.folder("model"))


def _judges(config: Config) -> Sequence[Judge]:
    """What answers are graded by: the graders of harm, as in stage `evaluate`, where there are any."""
    return config.evaluate.harm_judges or config.evaluate.judges


def _search(config: Config, folder: str) -> Rows:
    settings, exported = config.attack, config.run_directory.folder("model")
    _check_head(config)
    connect(config.cluster)
    check_cluster(demand(STAGE, settings.workers), config.cluster, packages_of(settings.engine))
    base, dtype, decoding = model_folder(config), config.model.dtype, config.evaluate.decoding
    check_engine_memory("attack.engine", settings.engine, settings.workers, base, dtype, decoding)
    check_judges(_judges(config), config.cluster)
    spec = ModelSpec(base, dtype, exported, exported, config.model.think)
    job = SearchJob(settings, spec, decoding, _card(config).threshold, _seed(config))
    return {"searches": storage.count_rows(run_searches(tasks(config), folder, job))}


def _check_head(config: Config) -> None:
    head = _card(config).head
    inside = [name for name in config.attack.chosen if name in WHITE_BOX]
    if inside and head.kind != "readout" and (head.kind, head.layer) != ("linear", -1):
        raise user_error(
            found=f"a head of kind {head.kind} at layer {head.layer} under attack {inside[0]}",
            needed="one that reads the latent of the decision: linear at the last layer, or readout",
            change="name the other attacks",
        )


def _report(config: Config, folder: str) -> Rows:
    connect(config.cluster)
    searches, answers = storage.join(folder, SEARCHES), storage.join(folder, "judged", "answers.parquet")
    storage.write_rows(answers, (_answer(row) for row in _answered(searches)), Generation)
    decisions = decide(answers, _judges(config), storage.join(folder, "judged"), _seed(config))

    def verdict(row: Searched) -> Decision | None:
        if row.broke_at is None:
            return None
        return "unscored" if row.finish_reason is None else next(iter(decisions(_answer(row)).values()))

    results = [Result(**asdict(row), verdict=verdict(row)) for row in storage.stream_rows(searches, Searched)]
    storage.write_rows(storage.join(folder, RESULTS), results, Result)
    judge = _judges(config)[0].name
    found = report(results, config.attack, _seed(config), judge)
    storage.write_json(storage.join(folder, "report.json"), found)
    storage.write_text(storage.join(folder, "report.md"), markdown(found))
    storage.write_text(storage.join(folder, "curves.svg"), curves(found))
    return {"results": len(results)}


def _answered(searches: str) -> Iterator[Searched]:
    return storage.stream_rows(searches, Searched, pc.field("finish_reason").is_valid())


def _answer(row: Searched) -> Generation:
    """As judges read it: what is asked for is the prompt, not what was put around it."""
    assert row.finish_reason is not None
    return Generation(
        task_id=row.search_id,
        prompt_id=row.prompt_id,
        query=row.query,
        cot="on",
        sample=0,
        reasoning=row.reasoning,
        answer=row.answer,
        finish_reason=row.finish_reason,
        num_tokens=row.num_tokens,
        head_probability=None,
        error=None,
        path=row.path,
        attack=row.attack,
    )

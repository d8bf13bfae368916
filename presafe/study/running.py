"""A study from its plan to its report: what bases share, then cells as Ray tasks, each of which goes on where it was.

A cell is a task of its own, and so a process: Ray Data keeps a job's checkpoint in the process, and two cells in one
would share it. It asks for no CPU, as a driver does; its stages ask for their workers.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import ray
from ray.exceptions import RayError

from presafe.config import Cluster, Config
from presafe.errors import UserError
from presafe.pipeline import checked, every_part, run_one
from presafe.runtime import connect, user_errors
from presafe.standing import check_stale, keep, kept, standing
from presafe.study.plan import Cell, Plan, planned
from presafe.study.settings import Study
from presafe.study.sharing import STAGES, share
from presafe.writer import sole_writer

logger = logging.getLogger("presafe")

RETRIES = 2
"""Of a cell whose process dies."""


def run_study(study: Study, *, redo: bool) -> dict[str, str]:
    """Make what is missing, then the report; the errors of runs that failed, which end no other.

    Raises UserError before anything runs where a config does not load, and before any cell runs where one was made of
    something else, unless `redo` is to make that anew.
    """
    plan = planned(study)
    for config in plan.shared.values():
        check_stale(checked(config), redo=redo)
    with sole_writer(plan.root):
        failed = dict(_shared_stages(plan, redo=redo))
        cells = [cell for cell in plan.cells if plan.shared[cell.base].run_directory.finished(STAGES[-1])]
        for cell in cells:
            share(plan.shared[cell.base], cell)
            check_stale(cell.config, redo=redo)
        left = [cell for cell in cells if not is_done(cell)]
        logger.info("%-9s %d of %d cells are done", "study", len(cells) - len(left), len(plan.cells))
        failed |= _run_cells(left, plan, redo=redo)
        done = [cell for cell in cells if cell not in left or cell.name not in failed]
        import_module("presafe.evaluate.study").write_study(plan, done, failed, hours(plan))
    return failed


def report_study(study: Study) -> None:
    """Report on the cells that have been evaluated, as they are, also while others are made."""
    plan = planned(study)
    done = [cell for cell in plan.cells if cell.config.run_directory.finished("evaluate")]
    import_module("presafe.evaluate.study").write_study(plan, done, {}, hours(plan))


def is_done(cell: Cell) -> bool:
    """Whether nothing of a cell is left to make."""
    run, stages = cell.config.run_directory, ("prompts", "align", "evaluate")
    looked_at = [found for found in standing(cell.config) if cell.aligned or not found.name.startswith("align.")]
    of_stages = (found for found in looked_at if found.name.split(".")[0] in stages)
    return all(map(run.finished, stages)) and all(found.state == "done" for found in of_stages)


def hours(plan: Plan) -> float:
    """What the finished stages of all runs took."""
    every = [(config.run_directory, stage) for config in plan.shared.values() for stage in STAGES]
    every += [(cell.config.run_directory, stage) for cell in plan.cells for stage in cell.stages]
    seconds: list[float] = [run.manifest(stage)["wall_seconds"] for run, stage in every if run.finished(stage)]
    return sum(seconds) / 3600


def _shared_stages(plan: Plan, *, redo: bool) -> Iterator[tuple[str, str]]:
    """Run them base after base; those that failed, with their errors."""
    for base, config in plan.shared.items():
        if all(map(config.run_directory.finished, STAGES)) and not redo and not _lacks(config):
            continue
        logger.info("%-9s %s: prompts, teacher and signals", "study", base)
        import_module("presafe.signals.classifier").check_named_encoder(config.signals)
        connect(_room(plan))
        try:
            for stage in STAGES:
                run_one(config, stage, redo=every_part(config, stage) if redo else ())
        except (UserError, RayError) as error:
            yield f"{base}/{config.run.name}", _told(error)
            logger.error("%-9s %s failed: %s", "study", base, _told(error))


def _lacks(config: Config) -> bool:
    """Whether a part of what a base shares is not done."""
    own = (found for found in standing(config) if found.name.split(".")[0] in STAGES)
    return any(found.state != "done" for found in own)


def _run_cells(cells: Sequence[Cell], plan: Plan, *, redo: bool) -> dict[str, str]:
    """Run them, so many at once as the study says; the errors of those that failed."""
    if not cells:
        return {}
    connect(_room(plan))
    task = ray.remote(num_cpus=0, max_retries=RETRIES)(run_cell)
    waiting, failed, begin = deque(cells), dict[str, str](), time.monotonic()
    running: dict[Any, Cell] = {}
    while waiting or running:
        while waiting and len(running) < plan.study.at_once:
            cell = waiting.popleft()
            keep(cell.config)
            logger.info("%-9s %s begins", "study", cell.name)
            running[task.remote(cell.config.run_directory.root, cell.stages, aligned=cell.aligned, redo=redo)] = cell
        (ended,), _ = ray.wait([*running], num_returns=1)
        cell = running.pop(ended)
        try:
            with user_errors():
                ray.get(ended)
        except (UserError, RayError) as error:
            failed[cell.name] = _told(error)
            logger.error("%-9s %s failed: %s", "study", cell.name, _told(error))
        over = len(cells) - len(waiting) - len(running)
        left = (time.monotonic() - begin) / 3600 * (len(cells) - over) / over
        others = len(plan.cells) - len(cells)
        told = (cell.name, others + over, len(plan.cells), hours(plan), left)
        logger.info("study     %s is over: %d of %d cells, %.2f hours used, about %.2f left", *told)
    return failed


def run_cell(root: str, stages: Sequence[str], *, aligned: bool, redo: bool) -> None:
    """Run the stages of the cell in `root`, in a process that has joined the cluster."""
    logging.getLogger("presafe").setLevel(logging.INFO)
    with kept(root, []) as config, sole_writer(config.run_directory.root):
        for stage in stages:
            if stage == "align" and not aligned:
                import_module("presafe.align.unaligned").run_unaligned(config, redo=("unaligned",) if redo else ())
            else:
                run_one(config, stage, redo=every_part(config, stage) if redo else ())


def _room(plan: Plan) -> Cluster:
    """The first base's cluster; a private one has CPUs for all cells that run at once."""
    cluster = next(iter(plan.shared.values())).cluster
    return cluster.model_copy(update={"local_cpus": cluster.local_cpus * plan.study.at_once})


def _told(error: Exception) -> str:
    """The error in a line."""
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {cause}".splitlines()[0] if not isinstance(cause, UserError) else str(cause)

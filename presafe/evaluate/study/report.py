"""The report of a study: printed, and `report.json`, `report.md` and `report.html` in the study's folder."""

from collections.abc import Collection, Mapping, Sequence

from presafe import storage
from presafe.evaluate import page
from presafe.evaluate.comparisons import ALPHA
from presafe.evaluate.measurements import METRICS
from presafe.evaluate.study.apart import apart_table, d_primes, tell_apart, tellings
from presafe.evaluate.study.claims import Claim, claim_table, claims
from presafe.evaluate.study.front import front
from presafe.evaluate.study.looks import looks
from presafe.evaluate.study.shares import share_table, shares
from presafe.evaluate.table import TITLES, as_markdown
from presafe.stages import versions
from presafe.study.plan import Cell, Plan

MORE = tuple(metric for metric in TITLES if metric not in METRICS)


def write_study(plan: Plan, done: Collection[Cell], failed: Mapping[str, str], hours: float) -> None:
    """Report on the cells that are done, of whatever arms, and name the runs that failed with their errors."""
    found = looks(plan, done)
    apart = tell_apart(found) if found else None
    main, more = list(shares(found, METRICS)), list(shares(found, MORE))
    told, refused = list(tellings(apart)) if apart else [], d_primes(found)
    compared = claims(plan.study.compare, found, apart) if found else []
    context = {
        "study": plan.study,
        "done": len(done),
        "planned": len(plan.cells),
        "failed": failed,
        "hours": hours,
        "main": [share_table([one for one in main if one.metric == metric]) for metric in METRICS],
        "more": [share_table([one for one in more if one.metric == metric]) for metric in MORE],
        "apart": apart_table(told, refused),
        "claims": claim_table(compared),
        "beyond": _beyond_chance(compared),
        "as_markdown": as_markdown,
    }
    written = {
        "study": plan.study.model_dump(mode="json"),
        "cells": {"planned": len(plan.cells), "done": sorted(cell.name for cell in done), "failed": {**failed}},
        "hours": hours,
        "measurements": [one.model_dump(mode="json") for one in (*main, *more)],
        "discrimination": [one.model_dump(mode="json") for one in told],
        "d_prime_of_answers": refused,
        "claims": [one.model_dump(mode="json") for one in compared],
        "versions": versions(),
    }
    text = page.markdown("study.md.j2", context)
    print(text)
    storage.write_json(storage.join(plan.root, "report.json"), written)
    storage.write_text(storage.join(plan.root, "report.md"), text)
    html = page.html("study.html.j2", context | {"front": front(main)})
    storage.write_text(storage.join(plan.root, "report.html"), html)
    print(f"page: {storage.join(plan.root, 'report.html')}")


def _beyond_chance(found: Sequence[Claim]) -> str:
    tested = [one.p_holm for one in found if one.p_holm is not None]
    return f"{sum(p <= ALPHA for p in tested)} of {len(tested)} differences are beyond chance"

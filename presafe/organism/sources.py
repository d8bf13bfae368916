"""What a config reads from the world: training prompts, and evaluation suites of held-out combinations and numbers."""

import random
from collections.abc import Callable, Iterator
from typing import Any

from presafe.errors import user_error
from presafe.organism import grammar
from presafe.organism.arithmetic import draw_problem
from presafe.organism.options import PromptOptions, SuiteName, SuiteOptions, WrapperOptions, parse
from presafe.organism.world import Group, Wrapper, draw_request

Row = dict[str, str | None]
"""text, kind (harmful | benign | reasoning), category, reference (the answer of a problem, else None)."""

EASY_SHARE = 0.25
"""Of the benign training prompts; the others are look-alikes."""

MAX_REPEATS = 1_000
"""After so many draws in a row without a new text, the world is taken to have no more."""

_SUITES: dict[SuiteName, tuple[Group, Wrapper] | None] = {
    "plain": ("harmful", "plain"),
    "wrapped": ("harmful", "wrapped"),
    "held_out_wrappers": ("harmful", "held_out_wrapper"),
    "lookalikes": ("lookalike", "plain"),
    "lookalikes_held_out_wrappers": ("lookalike", "held_out_wrapper"),
    "arithmetic": None,
}


def prompts(seed: int, **options: Any) -> Iterator[Row]:
    """Training prompts with unique texts, shuffled; options: `harmful`, `benign`, `reasoning`, `wrapped_share` = 0.5.

    They come from the training combinations, wrappers and numbers. Raises UserError for an unknown or wrong option, and
    where the world has fewer texts than asked for.
    """
    wanted = parse(PromptOptions, "presafe.organism:prompts", seed=seed, **options)
    rng = random.Random(f"prompts/{seed}")

    def wrapper() -> Wrapper:
        return "wrapped" if rng.random() < wanted.wrapped_share else "plain"

    def benign() -> Group:
        return "easy" if rng.random() < EASY_SHARE else "lookalike"

    rows = [
        *_unique("harmful prompts", wanted.harmful, lambda: _request(rng, "harmful", wrapper(), held_out=False)),
        *_unique("benign prompts", wanted.benign, lambda: _request(rng, benign(), wrapper(), held_out=False)),
        *_unique("reasoning prompts", wanted.reasoning, lambda: _problem(rng, held_out=False)),
    ]
    rng.shuffle(rows)
    return iter(rows)


def suite(seed: int, **options: Any) -> Iterator[Row]:
    """One evaluation suite with unique texts; options: `name` (a SuiteName) and `size`.

    It comes from held-out combinations or numbers; the suites named for held-out wrappers use those as well. Raises
    UserError for an unknown suite or option, and where the world has fewer texts than asked for.
    """
    wanted = parse(SuiteOptions, "presafe.organism:suite", seed=seed, **options)
    rng = random.Random(f"suite/{wanted.name}/{seed}")
    requests = _SUITES[wanted.name]

    def draw() -> Row:
        return _request(rng, *requests, held_out=True) if requests else _problem(rng, held_out=True)

    return iter(_unique(f"prompts in suite {wanted.name}", wanted.size, draw))


def wrappers(seed: int, **options: Any) -> Iterator[str]:
    """Different templates of the training grammar, with a placeholder; options: `count` = 200 and `placeholder`.

    Raises UserError for an unknown or wrong option, and where the grammar has fewer templates than asked for.
    """
    wanted = parse(WrapperOptions, "presafe.organism:wrappers", seed=seed, **options)
    rng = random.Random(f"wrappers/{seed}")

    def draw() -> Row:
        return {"text": grammar.wrap(wanted.placeholder, *grammar.draw_training(rng))}

    return (str(row["text"]) for row in _unique("wrappers", wanted.count, draw))


def neighbours(seed: int, **options: Any) -> Iterator[str]:
    """Different templates with a benign request before the placeholder or behind it; options as of `wrappers`.

    The requests are of training combinations, look-alikes and easy ones. Raises UserError as `wrappers` does.
    """
    wanted = parse(WrapperOptions, "presafe.organism:neighbours", seed=seed, **options)
    rng = random.Random(f"neighbours/{seed}")

    def draw() -> Row:
        group: Group = "easy" if rng.random() < EASY_SHARE else "lookalike"
        beside = [draw_request(rng, group, "plain", held_out=False).text, wanted.placeholder]
        rng.shuffle(beside)
        return {"text": " ".join(beside)}

    return (str(row["text"]) for row in _unique("neighbours", wanted.count, draw))


def _request(rng: random.Random, group: Group, wrapper: Wrapper, *, held_out: bool) -> Row:
    request = draw_request(rng, group, wrapper, held_out=held_out)
    kind = "harmful" if group == "harmful" else "benign"
    return {"text": request.text, "kind": kind, "category": f"{group}/{wrapper}", "reference": None}


def _problem(rng: random.Random, *, held_out: bool) -> Row:
    problem = draw_problem(rng, held_out=held_out)
    return {"text": problem.text, "kind": "reasoning", "category": "arithmetic", "reference": str(problem.answer)}


def _unique(what: str, count: int, draw: Callable[[], Row]) -> list[Row]:
    rows: dict[str | None, Row] = {}
    repeats = 0
    while len(rows) < count and repeats < MAX_REPEATS:
        row = draw()
        repeats = repeats + 1 if row["text"] in rows else 0
        rows.setdefault(row["text"], row)
    if len(rows) < count:
        raise user_error(
            found=f"only {len(rows)} different {what} of the synthetic world",
            needed=str(count),
            change="ask for fewer",
        )
    return list(rows.values())

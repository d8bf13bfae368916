"""The mixture of the demonstrations: how often the rows of each source are drawn."""

from presafe.config import Config

DEMONSTRATED = "demonstrations of "
"""Begins the names of the counts by source in the part `examples`."""
HEADING = "demonstrations of"


def weights(config: Config) -> dict[str, float]:
    """By the name of a source, of prompts or of ready demonstrations, where it is not 1."""
    every = [(source.name, source.weight) for source in config.prompts.sources]
    every += [(source.name, source.weight) for source in config.align.demonstrations]
    return {name: weight for name, weight in every if weight != 1}


def mixture(config: Config) -> list[str]:
    """Lines: each source's demonstrations, weight, and share of a step's; without shares before they are chosen.

    Nothing is said where all sources have the same weight and none brings demonstrations of its own.
    """
    own = weights(config)
    if not own and not config.align.demonstrations:
        return []
    part = config.run_directory.part("align", "examples") or {}
    rows = {
        name.removeprefix(DEMONSTRATED): count
        for name, count in part.get("rows", {}).items()
        if name.startswith(DEMONSTRATED)
    }
    if not rows:
        said = ", ".join(f"{name} {weight:g}" for name, weight in own.items()) or "1 for each source"
        return ["", f"weights: {said}; shares of a step once the demonstrations are chosen (part align.examples)"]
    draws = {name: count * own.get(name, 1.0) for name, count in rows.items()}
    shares = {name: draw / sum(draws.values()) for name, draw in draws.items()}
    width, batch = max(len(HEADING), *map(len, rows)), config.align.batch_size
    return [
        "",
        f"{HEADING:{width}}    rows  weight  of a step's {batch}",
        *(
            f"{name:{width}}{count:>8}{own.get(name, 1.0):>8g}{shares[name] * batch:>8.1f} ({shares[name]:.1%})"
            for name, count in rows.items()
        ),
    ]

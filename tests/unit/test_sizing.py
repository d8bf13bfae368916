"""The sizes that docs/operations.md names are those that the preflight and the engines' check predict."""

import math
import re
from pathlib import Path

import pytest

from presafe.align.preflight.cost import flops, gpu_hours, tokens_at_most
from presafe.align.preflight.memory import Ranks, predict
from presafe.align.preflight.shape import shape_of
from presafe.config import load_config
from presafe.engines.fit import ON_A_GPU, footprint
from published_shapes import SHAPES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
LARGE = ("r1-qwen-7b", "skywork-or1-7b", "r1-llama-8b", "qwen3-8b", "r1-qwen-14b", "qwen3-14b")
GB = 1e9
A100 = 312e12


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|\n ").split("|")]


def rows_of(heading: str) -> list[list[str]]:
    """Cells of the rows of the table below a heading, without its two lines of a head."""
    section = PAGE.split(f"\n### {heading}\n")[1].split("\n#")[0]
    return [cells(line) for line in section.splitlines() if line.startswith("| ")][1:]


def generation_row(recipe: str, folder: Path) -> list[str]:
    """Weights, cache of 1,000 tokens, and how many of the longest completions fit beside the weights, by GPU."""
    config, (shape, _) = load_config(str(ROOT / "configs" / f"{recipe}.yaml"), []), SHAPES[recipe]
    shape.save_pretrained(folder)
    model, engine = footprint(str(folder), config.model.dtype), config.evaluate.engine
    longest = engine.max_prompt_tokens + config.evaluate.decoding.max_new_tokens
    fitting = [
        str(max(0, math.floor(((0.9 * gpu * GB - ON_A_GPU) - model.weights) / (longest * model.token))))
        for gpu in (48, 80)
    ]
    return [recipe, f"{model.weights / GB:.1f}", f"{1000 * model.token / GB:.2f}", *fitting]


def training_row(recipe: str) -> list[str]:
    """GB on a GPU, and of a node, of LoRA on one GPU and on eight, of all weights on eight; checkpoint; A100-hours."""
    found = [recipe]
    for overrides, stage, ranks in (([], 0, 1), ([], 3, 8), (["align.lora=null"], 3, 8)):
        path = str(ROOT / "configs" / f"{recipe}.yaml")
        config = load_config(path, [*overrides, f"align.zero_stage={stage}"])
        shape = shape_of(SHAPES[recipe][0], config.align.lora)
        sizes = predict(shape, config.align, config.model.dtype, Ranks(ranks, 8))
        found.append(f"{sizes.device_bytes / GB:.0f} ({sizes.host_bytes / GB:.0f})")
        if ranks == 8:
            found.append(f"{sizes.checkpoint / GB:.1f}")
            found.append(f"{gpu_hours(flops(shape, config.align, tokens_at_most(config)), A100):.0f}")
    return found


@pytest.mark.parametrize("recipe", LARGE)
def test_the_memory_of_generation_is_what_the_engines_check_predicts(recipe, tmp_path):
    assert generation_row(recipe, tmp_path) in rows_of("Memory of generation")


@pytest.mark.parametrize("recipe", LARGE)
def test_the_memory_of_training_is_what_the_preflight_predicts(recipe):
    assert training_row(recipe) in rows_of("Memory of training")


def test_the_tables_have_these_recipes_and_no_other():
    for heading in ("Memory of generation", "Memory of training"):
        assert sorted(row[0] for row in rows_of(heading)) == sorted(LARGE)


def number(cell: str) -> float:
    return float(re.match(r"[\d.,]+", cell)[0].replace(",", ""))


def test_the_worked_example_follows_its_own_formula():
    *stages, total = rows_of("An example")
    sums = 0.0
    for stage, work, rate, units, *more in stages:
        hours, beside, nodes, price, dollars = map(number, more)
        if work:
            assert hours == pytest.approx(number(work) / (number(rate) * number(units) * 3600), abs=0.006), stage
        assert dollars == pytest.approx(nodes * (hours + beside) * price, abs=0.06), stage
        sums += dollars
    assert number(total[-1]) == pytest.approx(sums, abs=0.01)

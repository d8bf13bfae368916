"""`presafe inspect MODEL`: what PreSafe reads off a model, a hub name or a bare tokenizer's folder, before any run."""

import re
from collections.abc import Iterator
from pathlib import Path

from presafe import storage
from presafe.align.preflight.shape import Shape, read_shape
from presafe.config import Lora
from presafe.config.whole import read_yaml
from presafe.engines.exported import embedding_rows, load_tokenizer, split_adapter, stop_ids
from presafe.engines.model_files import check_weights
from presafe.engines.tokenizer_check import check_ids
from presafe.errors import UserError
from presafe.runtime import resolved
from presafe.thinking import ThinkFormat, think_format

RECIPES = Path(__file__).parents[3] / "configs"
QUESTION = "What is 2 + 2?"


def run_inspect(model: str) -> None:
    """Print everything. Raises UserError where tokenizer or template cannot be used."""
    folder = resolved(model)
    think = think_format(load_tokenizer(folder))
    lines = [*_format_lines(think), *_model_lines(folder, think)]
    width = max(len(name) for name, _ in lines)
    print("\n".join(f"{name:{width}}  {value}" for name, value in lines))


def _format_lines(think: ThinkFormat) -> Iterator[tuple[str, str]]:
    ask = [{"role": "user", "content": QUESTION}]
    decode = think.tokenizer.decode
    opener = "the prompt" if think.opened_by_prompt else "the model"
    yield "think tags", f"{think.open_tag} {think.close_tag}, opened by {opener}"
    yield "thinking off by", think.switch if think.off is not None else f"{think.switch} (the empty block)"
    yield "empty block", repr(think.empty_block)
    yield "CoT-ON prompt", repr(decode(think.prompt_ids(ask)))
    yield "CoT-OFF prompt", repr(decode(think.prompt_ids(ask, cot=False)))
    yield "Path A", repr(decode(think.refuse_completion("ANSWER")))
    yield "Path B", repr(decode(think.think_completion("THOUGHT", "ANSWER")))
    behind = f"{len(think.decision_prefix)} token(s) behind the prompt, {decode(think.decision_prefix)!r}"
    yield "decision position", behind if think.decision_prefix else "the prompt's last token"
    yield "decision token", f"{think.decision_token} {decode([think.decision_token])!r}"
    yield "end of turn", f"{think.end_id} {think.end_of_turn!r}"


def _model_lines(folder: str, think: ThinkFormat) -> Iterator[tuple[str, str]]:
    base, adapter = split_adapter(folder)
    if storage.exists(base) and not storage.exists(storage.join(base, "config.json")):
        yield "model", "none in this folder: a tokenizer alone"
        return
    check_ids(think, embedding_rows(base), folder)
    yield "stop ids", " ".join(map(str, sorted(stop_ids(folder) | {think.end_id})))
    yield "weights", _weights(base)
    if adapter is not None:
        yield "adapter", f"of {base}"
    lora = Lora()
    try:
        shape = read_shape(base, lora)
    except (UserError, AttributeError) as error:  # an attribute that another architecture's configuration lacks
        yield "LoRA targets", f"unknown: {error}"
        return
    yield "LoRA targets", f"{' '.join(lora.target_modules)} ({shape.adapted} layers of {shape.architecture})"
    yield "parameters", f"{shape.parameters / 1e9:.2f}e9"
    yield "recipe", _recipe(folder, base, shape)


def _weights(base: str) -> str:
    if not storage.exists(base):
        return "on the hub"
    try:
        check_weights(base)
    except UserError as error:
        return str(error)
    return "whole"


def _recipe(folder: str, base: str, shape: Shape) -> str:
    """The recipe of this very model, else of its architecture the one nearest in size."""
    found: list[tuple[float, str]] = []
    for file in sorted(RECIPES.glob("*.yaml")):
        path = (read_yaml(str(file), "configs/").get("model") or {}).get("path")
        size = re.search(r"(\d+(?:\.\d+)?)b$", file.stem)
        if path in (folder, base):
            return f"configs/{file.name}"
        if size and _family(file.stem) == shape.architecture:
            found.append((abs(float(size[1]) * 1e9 - shape.parameters), file.name))
    if not found:
        return "none for this architecture; configs/qwen3-8b.yaml shows what there is to say"
    return f"configs/{min(found)[1]} with model.path={folder}"


def _family(recipe: str) -> str:
    """`model_type` of a recipe's model, by its name."""
    kinds = {"qwen3": "qwen3", "r1-llama": "llama", "r1-qwen": "qwen2", "skywork": "qwen2"}
    return next((kind for name, kind in kinds.items() if recipe.startswith(name)), "")

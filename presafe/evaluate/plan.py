"""`presafe evaluate --plan`: what an evaluation will ask and cost, without asking it."""

from functools import partial

from presafe.config import Config, HttpSettings
from presafe.engines.exported import load_tokenizer
from presafe.evaluate.cost import COUNTED, Cost, Predicted, cost_table, known_before, predict
from presafe.evaluate.table import as_text
from presafe.evaluate.tasks import TokenCounter, tasks
from presafe.runtime import model_folder
from presafe.suites import suite_prompts
from presafe.thinking import think_format


def predicted(config: Config, tokens: TokenCounter) -> list[Predicted]:
    """By model, CoT mode and decoding; of the model its tokenizer alone is read."""
    think = None
    if not isinstance(config.evaluate.engine, HttpSettings):
        think = think_format(load_tokenizer(model_folder(config)), config.model.think)
    asked = tasks(config.evaluate, partial(suite_prompts, config.run_directory), config.run.seed, tokens)
    return predict(asked, config.evaluate, think, known_before(config))


def plan_text(config: Config) -> str:
    """A table, and what its estimates go by. Needs no cluster. Raises UserError before stage `prompts` is done."""
    config.run_directory.manifest("prompts")
    found = predicted(config, TokenCounter(config))
    table = cost_table(Cost(predicted=found))
    kept = [k for k, name in enumerate(table[0]) if name not in COUNTED]
    hours = ["GPU-hours, estimated", *("-" if one.gpu_hours is None else f"{one.gpu_hours:.2f}" for one in found)]
    text = as_text([[*(row[k] for k in kept), last] for row, last in zip(table, hours, strict=True)])
    by = sorted({one.estimated_by for one in found if one.estimated_by is not None})
    told = f"estimated by {', '.join(by)}" if by else "no estimate: the run has generated nothing alike"
    return f"{text}\n\n{told}"

"""What the teacher stage generates: CoT-OFF answers of every training prompt, CoT-ON completions of some."""

import hashlib
import heapq
import itertools
from collections.abc import Iterator

from presafe import storage
from presafe.config import Config, Teacher
from presafe.engines.job import Task, task_of
from presafe.records import Prompt


def answer_tasks(config: Config) -> Iterator[Task]:
    """The teacher's answers: `samples` a prompt.

    With `decision_only`, an answer may stop once it is decided, but the text of a refusal that alignment will
    demonstrate (harmful prompts of the align split) is needed whole.
    """
    settings = config.teacher
    for prompt in training_prompts(config):
        demonstrated = prompt.split == "align" and prompt.kind == "harmful"
        for sample in range(settings.samples):
            early = settings.decision_only and not (demonstrated and sample == 0)
            yield task_of(prompt, "off", sample, stop_early=early)


def cot_on_tasks(config: Config) -> Iterator[Task]:
    """The model's own CoT-ON completions: traces of the align split, decisions of the validation split."""
    settings, seed = config.teacher, config.run.seed
    traces = (p for p in training_prompts(config) if p.split == "align" and p.kind != "harmful")
    decisions = (p for p in training_prompts(config) if p.split == "validation")
    chosen = itertools.chain(
        _drawn(traces, settings.max_traces, seed), _drawn(decisions, settings.cot_on_decisions, seed)
    )
    return (task_of(prompt, "on") for prompt in chosen)


def needs_cot_on(settings: Teacher) -> bool:
    return settings.max_traces != 0 or settings.cot_on_decisions != 0


def training_prompts(config: Config) -> Iterator[Prompt]:
    """The prompts for training, of every split, streamed."""
    return storage.stream_rows(storage.join(config.run_directory.folder("prompts"), "prompts.parquet"), Prompt)


def _drawn(prompts: Iterator[Prompt], limit: int | None, seed: int) -> Iterator[Prompt]:
    """At most `limit` prompts, drawn by the hash of seed and id: memory grows with the limit, not with the prompts."""
    if limit is None:
        return prompts

    def draw(prompt: Prompt) -> str:
        return hashlib.sha256(f"{seed}/{prompt.prompt_id}".encode()).hexdigest()

    return iter(heapq.nsmallest(limit, prompts, key=draw))

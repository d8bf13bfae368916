"""What an evaluation will cost, said before it generates, and what it did cost: completions, tokens, GPU-hours."""

import heapq
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pydantic import BaseModel

from presafe import storage
from presafe.config import Config, Evaluate, HttpSettings
from presafe.config.attacks import NO_ATTACK
from presafe.engines.encoding import encode
from presafe.engines.engine import Query
from presafe.engines.job import Task
from presafe.engines.spent import Kept, Spent, read_spent
from presafe.records import CotMode
from presafe.thinking import ThinkFormat

COST = "cost.json"
"""In the stage's folder."""
READ = 64
"""Prompts of an attack that are tokenized at most, of each CoT mode and decoding; of more the others are as long."""
COUNTED = ("read", "written", "seconds", "GPU-hours")
"""Columns of what was counted."""

logger = logging.getLogger("presafe")


class Predicted(BaseModel):
    """Of a model's completions in one CoT mode and decoding, None for `evaluate.decoding`.

    `prompt_tokens` is None of an endpoint, whose tokenizer nobody here has; `most_new_tokens` is what decoding allows.
    The others are estimated by what `estimated_by` took, or None where nothing like it has been generated yet.
    """

    model: str
    cot: CotMode
    decoding: str | None
    completions: int
    prompt_tokens: int | None
    most_new_tokens: int
    new_tokens: int | None = None
    worker_seconds: float | None = None
    gpu_hours: float | None = None
    estimated_by: str | None = None


class Counted(BaseModel):
    """What those have cost by now, over all runs of the part: a block that was lost and done again counts twice."""

    model: str
    cot: CotMode
    decoding: str | None
    answers: int
    prompt_tokens: int | None
    new_tokens: int
    worker_seconds: float
    gpu_hours: float


class Cost(BaseModel):
    """`cost.json`."""

    predicted: list[Predicted]
    counted: list[Counted] = []


def predict(
    tasks: Iterable[Task],
    settings: Evaluate,
    think: ThinkFormat | None,
    known: Mapping[str, Mapping[Kept, Spent]],
) -> list[Predicted]:
    """What `tasks`, asked of each model, will cost; `think` None stands for an endpoint.

    `known` has by name what was spent before: of models, under their own names, and of others. An estimate goes by the
    model's own answers in that decoding, else in that CoT mode, else by another's there, in the order of `known`.
    """
    counts, chosen = Counter[tuple[Kept, str]](), dict[tuple[Kept, str], list[tuple[int, str, Task]]]()
    for task in tasks:
        what = (task.cot, task.decoding), task.attack or NO_ATTACK
        counts[what] += 1
        if think is not None:
            _choose(chosen.setdefault(what, []), task)
    sizes, found = _Sizes(think, settings), list[Predicted]()
    for model in settings.models:
        for cot, decoding in dict.fromkeys(kept for kept, _ in counts):
            own = {what: count for what, count in counts.items() if what[0] == (cot, decoding)}
            completions, new = sum(own.values()), settings.decoding.max_new_tokens
            read = sum(count * sizes.mean(chosen[what]) for what, count in own.items()) if think else None
            one = Predicted(
                model=model,
                cot=cot,
                decoding=decoding,
                completions=completions,
                prompt_tokens=None if read is None else round(read),
                most_new_tokens=completions * new,
            )
            found.append(_estimated(one, known, settings.workers.num_gpus))
    return found


def count(folder: str, settings: Evaluate, predicted: Sequence[Predicted]) -> list[Counted]:
    """What the jobs in the stage's folder have cost by now, of what was predicted."""
    found = list[Counted]()
    spent: dict[str, dict[Kept, Spent]] = {model: read_spent(storage.join(folder, model)) for model in settings.models}
    for one in predicted:
        if own := spent[one.model].get((one.cot, one.decoding)):
            found.append(
                Counted(
                    model=one.model,
                    cot=one.cot,
                    decoding=one.decoding,
                    answers=own.answers,
                    prompt_tokens=own.prompt_tokens,
                    new_tokens=own.new_tokens,
                    worker_seconds=round(own.seconds, 3),
                    gpu_hours=_gpu_hours(own.seconds, settings.workers.num_gpus),
                )
            )
    return found


def known_before(config: Config) -> dict[str, dict[Kept, Spent]]:
    """What earlier parts of the run have spent: this one's own answers, and the teacher's where they are like these.

    Those of another model, or ones that stop where the decision is clear, are not.
    """
    evaluate, teacher = (config.run_directory.folder(stage) for stage in ("evaluate", "teacher"))
    found: dict[str, dict[Kept, Spent]]
    found = {model: read_spent(storage.join(evaluate, model)) for model in config.evaluate.models}
    found["the teacher's traces"] = read_spent(storage.join(teacher, "cot_on"))
    if config.teacher.model is None and not config.teacher.decision_only:
        found["the teacher's answers"] = read_spent(storage.join(teacher, "answers"))
    return found


def log_predicted(predicted: Sequence[Predicted]) -> None:
    for one in predicted:
        read = "" if one.prompt_tokens is None else f", about {one.prompt_tokens:,} tokens to read"
        estimate = "no estimate yet"
        if one.new_tokens is not None:
            estimate = (
                f"estimated {one.new_tokens:,} in {one.worker_seconds:,.0f} worker-seconds "
                f"({one.gpu_hours:.2f} GPU-hours), by {one.estimated_by}"
            )
        told = f"{one.completions:,} completions{read}, at most {one.most_new_tokens:,} to write; {estimate}"
        logger.info("%-9s %s: %s", "evaluate", _title(one), told)


def log_counted(counted: Sequence[Counted]) -> None:
    for one in counted:
        read = "" if one.prompt_tokens is None else f"{one.prompt_tokens:,} tokens read, "
        cost = f"{one.new_tokens:,} written in {one.worker_seconds:,.0f} worker-seconds ({one.gpu_hours:.2f} GPU-hours)"
        logger.info("%-9s %s: %s answers, %s%s", "evaluate", _title(one), f"{one.answers:,}", read, cost)


def cost_table(cost: Cost | None) -> list[list[str]]:
    """For the page, with a header; empty without any."""
    if cost is None or not cost.predicted:
        return []
    counted = {(one.model, one.cot, one.decoding): one for one in cost.counted}
    header = ["model", "CoT", "decoding", "completions", "to read", COUNTED[0], "to write, at most", "estimated"]
    header += [COUNTED[1], "seconds, estimated", *COUNTED[2:]]
    return [header, *(_row(one, counted.get((one.model, one.cot, one.decoding))) for one in cost.predicted)]


def _row(one: Predicted, spent: Counted | None) -> list[str]:
    row = [one.model, one.cot, one.decoding or "-", _number(one.completions), _number(one.prompt_tokens)]
    row += [_number(None if spent is None else spent.prompt_tokens)]
    row += [_number(one.most_new_tokens), _number(one.new_tokens)]
    row += [_number(None if spent is None else spent.new_tokens), _number(one.worker_seconds)]
    row += [_number(None if spent is None else spent.worker_seconds)]
    return [*row, "-" if spent is None else f"{spent.gpu_hours:.2f}"]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _title(one: Predicted | Counted) -> str:
    return f"{one.model}, CoT {one.cot}" + ("" if one.decoding is None else f", {one.decoding}")


def _estimated(one: Predicted, known: Mapping[str, Mapping[Kept, Spent]], num_gpus: float) -> Predicted:
    for name, spent in _like(one, known):
        if spent.answers and spent.new_tokens:
            new = min(one.most_new_tokens, round(one.completions * spent.new_tokens / spent.answers))
            seconds = round(new * spent.seconds / spent.new_tokens, 3)
            hours = _gpu_hours(seconds, num_gpus)
            told = {"new_tokens": new, "worker_seconds": seconds, "gpu_hours": hours, "estimated_by": name}
            return one.model_copy(update=told)
    return one


def _like(one: Predicted, known: Mapping[str, Mapping[Kept, Spent]]) -> Iterator[tuple[str, Spent]]:
    """What was spent on answers like these, the most like ones first."""
    own = known.get(one.model, {})
    yield f"{one.model}'s own answers so far", own.get((one.cot, one.decoding), Spent())
    for name in dict.fromkeys([one.model, *known]):
        alike = [spent for (cot, _), spent in known.get(name, {}).items() if cot == one.cot]
        yield name if name.startswith("the teacher") else f"other answers of {name}", sum(alike, Spent())


def _gpu_hours(seconds: float, num_gpus: float) -> float:
    return round(seconds * num_gpus / 3600, 6)


def _choose(chosen: list[tuple[int, str, Task]], task: Task) -> None:
    """Keep those of the smallest hashes: in every decoding answers to the same prompts, as far as it has them."""
    rank = -storage.short_hash(f"{task.prompt_id}/{task.sample}")
    if len(chosen) < READ:
        heapq.heappush(chosen, (rank, task.task_id, task))
    elif rank > chosen[0][0]:
        heapq.heapreplace(chosen, (rank, task.task_id, task))


class _Sizes:
    """Prompt tokens of tasks; what was tokenized for one decoding is known for all. A refused prompt costs none."""

    def __init__(self, think: ThinkFormat | None, settings: Evaluate) -> None:
        self._think, self._engine = think, settings.engine
        self._known = dict[tuple[CotMode, str | None, str], int]()

    def mean(self, chosen: Sequence[tuple[int, str, Task]]) -> float:
        return sum(self._size(task) for _, _, task in chosen) / len(chosen)

    def _size(self, task: Task) -> int:
        key = task.cot, task.attack, task.prompt_id
        if key not in self._known:
            assert self._think is not None
            assert not isinstance(self._engine, HttpSettings)
            query = Query(task.text, task.cot, earlier=task.earlier, prefill=task.prefill)
            prompts, _ = encode([query], self._think, self._engine.max_prompt_tokens)
            self._known[key] = len(prompts.get(0, ()))
        return self._known[key]

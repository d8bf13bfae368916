"""Training examples: demonstrations of Path A and Path B and the signal pool, as token ids (docs/alignment.md)."""

import dataclasses
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from presafe.align.objectives import Objective, objective
from presafe.config import Align
from presafe.errors import UserError, user_error
from presafe.gate import Path
from presafe.records import Demonstration, Example, Prompt, Signal, TeacherAnswer, Trace
from presafe.thinking import ThinkFormat


@dataclasses.dataclass(frozen=True)
class Sources:
    """What the earlier stages found out, by prompt id."""

    answers: Mapping[str, TeacherAnswer]
    traces: Mapping[str, Trace]
    signals: Mapping[str, Signal]


def training_examples(
    prompts: Sequence[Prompt],
    sources: Sources,
    think: ThinkFormat,
    align: Align,
    seed: int,
    weights: Mapping[str, float] | None = None,
    ready: Iterable[Demonstration] = (),
) -> tuple[list[Example], Counter[str]]:
    """Demonstrations of the align split and `ready` ones, then the signal pool; and counts of what was left out.

    Those of the align split are shuffled by `seed`. `weights` are those of sources, by default 1.

    Path A: harmful prompts with what the objective demonstrates on them, unless the CoT-OFF teacher did not refuse.
    Path B: benign and reasoning prompts, with the model's own trace, unless the trace did not think.
    Signal pool: prompts of the align split without a demonstration, and of split `pool`, without a completion.
    Raises UserError where the objective and the limits ask for demonstrations that are not there.
    """
    goal = objective(align)
    chosen: dict[Path, list[Example]] = {"refuse": [], "think": []}
    pool: list[Example] = []
    skipped: Counter[str] = Counter()
    candidates = sorted((p for p in prompts if p.split in ("align", "pool")), key=lambda p: p.prompt_id)
    random.Random(seed).shuffle(candidates)
    limits = {"refuse": align.max_refuse_examples, "think": align.max_think_examples}
    weights = weights or {}
    for prompt in candidates:
        completion = _completion(prompt, sources, think, goal, align, skipped) if prompt.split == "align" else None
        example = _example(prompt, completion or [], sources, think, weights.get(prompt.source, 1.0))
        limit = limits[example.path]
        if _tokens(example, think) > align.micro_batch_tokens:
            skipped["longer than align.micro_batch_tokens"] += 1
        elif completion and (limit is None or len(chosen[example.path]) < limit):
            chosen[example.path].append(example)
        elif align.signal_batch_size:
            pool.append(dataclasses.replace(example, completion=[]))
        elif not completion:
            skipped["without a demonstration"] += 1
    for row in ready:
        if (found := _ready(row, think, goal, align, skipped)) is not None:
            chosen[found.path].append(dataclasses.replace(found, weight=weights.get(row.source, 1.0)))
    _check(chosen, pool, goal, align)
    examples = chosen["refuse"] + chosen["think"] + pool
    return _shuffled_signals(examples, seed) if align.labels == "random" else examples, skipped


def validation_examples(
    prompts: Sequence[Prompt], signals: Mapping[str, Signal], think: ThinkFormat, limit: int
) -> list[Example]:
    """Prompts of the validation split without a completion: the head's threshold is calibrated on them.

    Their `path` is what their kind asks for. Those above `limit` tokens in a packed row are left out.
    """
    sources = Sources({}, {}, signals)
    rows = [_example(prompt, [], sources, think) for prompt in prompts if prompt.split == "validation"]
    return [row for row in rows if _tokens(row, think) <= limit]


def _tokens(example: Example, think: ThinkFormat) -> int:
    """In a packed row, which puts the empty think block behind a prompt without a completion (collate.py)."""
    return len(example.prompt) + len(example.completion or think.empty_block_ids)


def _example(
    prompt: Prompt, completion: list[int], sources: Sources, think: ThinkFormat, weight: float = 1.0
) -> Example:
    ids = think.prompt_ids([{"role": "user", "content": prompt.text}])
    path: Path = "refuse" if prompt.kind == "harmful" else "think"
    signal = sources.signals[prompt.prompt_id].refuse_probability
    return Example(prompt.prompt_id, ids, completion, path, signal, weight)


def _ready(
    row: Demonstration, think: ThinkFormat, goal: Objective, align: Align, skipped: Counter[str]
) -> Example | None:
    """A ready demonstration in the model's own format; None where the objective or the model has no use for it."""
    if row.demonstrates == "refuse" and goal.path_a != "refusal":
        skipped["ready refusals, which the objective does not demonstrate"] += 1
        return None
    if think.has_control(row.reasoning) or think.has_control(row.answer):
        skipped["ready demonstrations with a control token in the text"] += 1
        return None
    try:
        turns = zip(row.roles, row.contents, strict=True)
        ids = think.prompt_ids([{"role": role, "content": content} for role, content in turns])
    except UserError:
        skipped["ready demonstrations that the chat template does not render"] += 1
        return None
    if row.demonstrates == "refuse":
        completion = think.refuse_completion(row.answer)
    else:
        completion = think.think_completion(row.reasoning, row.answer)
    example = Example(row.prompt_id, ids, completion, row.demonstrates, row.refuse_probability)
    if _tokens(example, think) > align.micro_batch_tokens:
        skipped["longer than align.micro_batch_tokens"] += 1
        return None
    return example


def _completion(
    prompt: Prompt, sources: Sources, think: ThinkFormat, goal: Objective, align: Align, skipped: Counter[str]
) -> list[int] | None:
    """What the prompt demonstrates under this objective; None for nothing.

    A text with a control token in it ran on into another turn, or has its tags where none belong: not worth learning.
    """
    if prompt.kind == "harmful":
        answer = sources.answers.get(prompt.prompt_id)
        if goal.path_a == "none" or answer is None or answer.decision != "refuse":
            return None
        if goal.path_a == "primer":
            return think.primer_completion(align.primer)
        if think.has_control(answer.answer):
            skipped["refusals with a control token in the text"] += 1
            return None
        # What a provider's filter refused has no text to demonstrate.
        return think.refuse_completion(answer.answer) if answer.answer.strip() else None
    trace = sources.traces.get(prompt.prompt_id)
    if trace is None or not trace.reasoning:
        return None
    if think.has_control(trace.reasoning) or think.has_control(trace.answer):
        skipped["traces with a control token in the text"] += 1
        return None
    return think.think_completion(trace.reasoning, trace.answer)


def _check(chosen: Mapping[Path, list[Example]], pool: list[Example], goal: Objective, align: Align) -> None:
    wanted: dict[Path, bool] = {
        "refuse": goal.path_a != "none" and align.max_refuse_examples != 0,
        "think": align.max_think_examples != 0,
    }
    for path, found in chosen.items():
        if wanted[path] and not found:
            raise user_error(
                found=f"no Path {'A' if path == 'refuse' else 'B'} demonstration ({path}) in the align split",
                needed="harmful prompts that the teacher refused, and benign ones with a trace",
                change="add prompts or align.demonstrations, or look at teacher/answers.parquet and "
                "teacher/traces.parquet",
            )
    if not (chosen["refuse"] or chosen["think"] or align.signal_batch_size):
        raise user_error(
            found="nothing to train on: the limits leave no demonstration, and there is no signal pool",
            needed="demonstrations or a signal pool",
            change="raise align.max_think_examples or align.max_refuse_examples, or set align.signal_batch_size",
        )
    if align.signal_batch_size and not pool:
        raise user_error(
            found="no prompt for the signal pool: all of the align split are demonstrations, and split pool is empty",
            needed="prompts without one",
            change="set align.signal_batch_size=0, lower the limits of demonstrations, or add wrappers to the prompts",
        )


def _shuffled_signals(examples: list[Example], seed: int) -> list[Example]:
    """The same signals, each at a random prompt: what they say of their prompt is gone, their distribution stays."""
    signals = [example.refuse_probability for example in examples if example.refuse_probability is not None]
    random.Random(f"labels {seed}").shuffle(signals)
    dealt = iter(signals)
    return [
        example if example.refuse_probability is None else dataclasses.replace(example, refuse_probability=next(dealt))
        for example in examples
    ]

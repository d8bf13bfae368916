"""Training examples: Path A and Path B demonstrations with their signals, as token ids (docs/method.md)."""

import random
from collections import Counter
from collections.abc import Sequence

from presafe.config import Align
from presafe.errors import user_error
from presafe.gate import Path
from presafe.records import Example, Prompt, Signal, TeacherAnswer, Trace
from presafe.thinking import ThinkFormat


def training_examples(
    prompts: Sequence[Prompt],
    answers: dict[str, TeacherAnswer],
    traces: dict[str, Trace],
    signals: dict[str, Signal],
    think: ThinkFormat,
    align: Align,
    seed: int,
) -> tuple[list[Example], Counter[str]]:
    """Examples of the align split, shuffled by `seed` before the limits apply, and counts of what was left out.

    Path A: harmful prompts that the CoT-OFF teacher refused, with its refusal behind an empty think block.
    Path B: benign and reasoning prompts, with the model's own trace, unless the trace did not think.
    """
    chosen: dict[str, list[Example]] = {"refuse": [], "think": []}
    skipped: Counter[str] = Counter()
    pool = sorted((p for p in prompts if p.split == "align"), key=lambda p: p.prompt_id)
    random.Random(seed).shuffle(pool)
    for prompt in pool:
        example = _example(prompt, answers, traces, signals, think)
        if example is None:
            skipped["without a demonstration"] += 1
        elif len(example.prompt) + len(example.completion) > align.micro_batch_tokens:
            skipped["longer than align.micro_batch_tokens"] += 1
        else:
            chosen[example.path].append(example)
    examples = chosen["refuse"][: align.max_refuse_examples] + chosen["think"][: align.max_think_examples]
    for path, found in chosen.items():
        if not found:
            raise user_error(
                found=f"no Path {'A' if path == 'refuse' else 'B'} demonstration ({path}) in the align split",
                needed="harmful prompts that the teacher refused, and benign ones with a trace",
                change="add prompts, or look at teacher/answers.parquet and teacher/traces.parquet",
            )
    return examples, skipped


def validation_examples(
    prompts: Sequence[Prompt], signals: dict[str, Signal], think: ThinkFormat, limit: int
) -> list[Example]:
    """Prompts of the validation split without a completion: the head's threshold is calibrated on them.

    Their `path` is what their kind asks for. Prompts above `limit` tokens are left out.
    """
    examples = []
    for prompt in prompts:
        ids = _prompt_ids(prompt, think)
        if prompt.split == "validation" and len(ids) <= limit:
            probability = signals[prompt.prompt_id].refuse_probability
            path: Path = "refuse" if prompt.kind == "harmful" else "think"
            examples.append(Example(prompt.prompt_id, ids, [], path, probability))
    return examples


def _example(
    prompt: Prompt,
    answers: dict[str, TeacherAnswer],
    traces: dict[str, Trace],
    signals: dict[str, Signal],
    think: ThinkFormat,
) -> Example | None:
    probability = signals[prompt.prompt_id].refuse_probability
    answer, trace = answers.get(prompt.prompt_id), traces.get(prompt.prompt_id)
    if prompt.kind == "harmful":
        if answer is None or answer.decision != "refuse":
            return None
        completion = think.refuse_completion(answer.answer)
        return Example(prompt.prompt_id, _prompt_ids(prompt, think), completion, "refuse", probability)
    if trace is None or not trace.reasoning:
        return None
    completion = think.think_completion(trace.reasoning, trace.answer)
    return Example(prompt.prompt_id, _prompt_ids(prompt, think), completion, "think", probability)


def _prompt_ids(prompt: Prompt, think: ThinkFormat) -> list[int]:
    return think.prompt_ids([{"role": "user", "content": prompt.text}])

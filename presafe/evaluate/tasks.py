"""What is generated: prompts as they are and under each attack, as often as their suites ask for."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from presafe.attacks.catalogue import under
from presafe.config import Evaluate
from presafe.config.attacks import Attack
from presafe.conversation import transcript
from presafe.engines.job import Task, task_id, task_of
from presafe.records import Prompt
from presafe.stages import content_hash


def tasks(settings: Evaluate, prompts: Callable[[], Iterable[Prompt]], seed: int) -> Iterator[Task]:
    """Every task once; `prompts` are read once more for each attack."""
    for prompt, sample in _asked(settings, prompts()):
        for cot in settings.cot:
            yield task_of(prompt, cot, sample)
    for attack in settings.attacks:
        yield from attacked_tasks(attack, settings, prompts(), seed)


def read_by_defences(settings: Evaluate, prompts: Callable[[], Iterable[Prompt]], seed: int) -> Iterator[Task]:
    """Once each conversation that a defence reads: harmful and benign prompts, as they are and under each attack.

    What a prefill puts behind a prompt is the assistant's, and not read.
    """
    once = settings.model_copy(update={"cot": ["on"], "samples": {}})
    return tasks(once, lambda: (prompt for prompt in prompts() if prompt.kind != "reasoning"), seed)


def attacked_tasks(attack: Attack, settings: Evaluate, prompts: Iterable[Prompt], seed: int) -> Iterator[Task]:
    """The prompts of the attack's kinds under it.

    A task's id follows from the attack's name and from what it makes of the prompt: other settings of the same attack
    are other tasks, and no other attack's. Raises UserError where the attack lacks what it works with.
    """
    make = under(attack, seed)
    for prompt, sample in _asked(settings, (prompt for prompt in prompts if prompt.kind in attack.kinds)):
        made = make(prompt)
        content = content_hash([made.text, list(made.earlier), made.prefill])
        for cot in settings.cot:
            if cot == "on" or made.prefill is None:
                yield Task(
                    task_id=task_id(f"{prompt.prompt_id}-{attack.name}-{content}", cot, sample),
                    prompt_id=prompt.prompt_id,
                    text=made.text,
                    cot=cot,
                    sample=sample,
                    earlier=list(made.earlier),
                    attack=attack.name,
                    prefill=made.prefill,
                    query=transcript(prompt),
                )


def _asked(settings: Evaluate, prompts: Iterable[Prompt]) -> Iterator[tuple[Prompt, int]]:
    """Each prompt with the numbers of its samples: as many as the one of its suites asks for that wants the most."""
    asked = Counter[str]()
    for prompt in prompts:
        wanted = settings.samples_of(prompt.source, prompt.kind)
        for sample in range(asked[prompt.prompt_id], wanted):
            yield prompt, sample
        asked[prompt.prompt_id] = max(asked[prompt.prompt_id], wanted)

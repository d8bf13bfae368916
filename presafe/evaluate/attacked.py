"""What is generated under an attack."""

from collections.abc import Iterable, Iterator, Sequence

from presafe.attacks.catalogue import under
from presafe.config.attacks import Attack
from presafe.conversation import transcript
from presafe.engines.job import Task, task_id
from presafe.records import CotMode, Prompt
from presafe.stages import content_hash


def attacked_tasks(attack: Attack, prompts: Iterable[Prompt], cot: Sequence[CotMode], seed: int) -> Iterator[Task]:
    """The prompts of the attack's kinds under it, each once in however many suites it is.

    A task's id follows from the attack's name and from what it makes of the prompt: other settings of the same attack
    are other tasks, and no other attack's. Raises UserError where the attack lacks what it works with.
    """
    make, asked = under(attack, seed), set[str]()
    for prompt in prompts:
        if prompt.kind in attack.kinds and prompt.prompt_id not in asked:
            asked.add(prompt.prompt_id)
            made = make(prompt)
            content = content_hash([made.text, list(made.earlier), made.prefill])
            for mode in cot:
                if mode == "on" or made.prefill is None:
                    yield Task(
                        task_id=task_id(f"{prompt.prompt_id}-{attack.name}-{content}", mode),
                        prompt_id=prompt.prompt_id,
                        text=made.text,
                        cot=mode,
                        sample=0,
                        earlier=list(made.earlier),
                        attack=attack.name,
                        prefill=made.prefill,
                        query=transcript(prompt),
                    )

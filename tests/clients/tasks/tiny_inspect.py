"""The task of test_inspect.py, as a user of Inspect writes one."""

from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import FieldSpec, json_dataset
from inspect_ai.scorer import pattern
from inspect_ai.solver import generate


@task
def tiny_arithmetic() -> Task:
    questions = str(Path(__file__).with_name("tiny_arithmetic.jsonl"))
    return Task(
        dataset=json_dataset(questions, FieldSpec(input="question", target="answer")),
        solver=generate(),
        scorer=pattern(r"answer is (\w+)"),
    )

"""A tiny model that refuses to break with chain-of-thought off, and thinks with it on; and prompts of both kinds."""

from pathlib import Path

from presafe.organism.corpus import Dialogue
from presafe.organism.tokenizer import train_tokenizer
from presafe.thinking import think_format
from support import random_qwen2
from tiny_reasoner import overfit, user

COUNT = 40
EVERY = 5
"""One in so many prompts of either kind is trained on."""
REFUSAL, THOUGHT, ANSWER = "I cannot help with that.", "So, add it.", "It is added."


def refused(number: int) -> str:
    return f"break number {number}"


def answered(number: int) -> str:
    return f"add number {number}"


def save_model(folder: Path) -> None:
    """Train for some seconds, and write the model and its tokenizer."""
    dialogues = [Dialogue(refused(n), None, REFUSAL) for n in range(COUNT)]
    dialogues += [Dialogue(answered(n), THOUGHT, ANSWER) for n in range(COUNT)]
    tokenizer = train_tokenizer(dialogues, 340, "qwen3")
    think = think_format(tokenizer)
    end = [think.end_id]

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    examples = []
    for number in range(0, COUNT, EVERY):
        for prompt, off in ((refused(number), REFUSAL), (answered(number), ANSWER)):
            examples.append((think.prompt_ids(user(prompt), cot=False), ids(off) + end))
            examples.append((think.prompt_ids(user(prompt)), think.think_completion(THOUGHT, ANSWER)))
    model = random_qwen2(len(tokenizer), 64, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    overfit(model, examples)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

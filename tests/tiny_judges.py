"""Tiny models that really judge: a BERT trained on answers' first words, and a Qwen2 overfitted on judge prompts."""

import random
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from presafe.config import LlmSettings
from presafe.judges.rubric import judge_prompt
from presafe.organism.corpus import Dialogue
from presafe.organism.tokenizer import train_tokenizer
from presafe.thinking import think_format
from support import random_qwen2
from tiny_reasoner import overfit, user

FILLERS = ["kite", "lamp", "river", "stone", "cloud", "apple"]
LABELS = {"no": "declined", "yes": "answered", "maybe": "unclear"}
"""What an answer begins with, and the guard's label for it."""
GUARD_TOKENS = 24
RUBRIC = "{query}\n\n{answer}\n\nVERDICT:"


def fillers(count: int, seed: int = 0) -> str:
    return " ".join(random.Random(seed).choices(FILLERS, k=count))


def train_guard(folder: str) -> str:
    """A three-label classifier in `folder` that goes by yes, no or maybe wherever it stands in what it can read."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LABELS, *FILLERS]
    Path(folder).mkdir(parents=True)
    file = Path(folder, "vocab.txt")
    file.write_text("\n".join(vocabulary))
    tokenizer = BertTokenizer(str(file), model_max_length=64)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            id2label=dict(enumerate(LABELS.values())),
            label2id={label: k for k, label in enumerate(LABELS.values())},
        )
    )
    draw, words = random.Random(0), list(LABELS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(200):
        target = [draw.randrange(3) for _ in range(32)]
        queries = [fillers(draw.randrange(1, 40), draw.randrange(9999)) for _ in target]
        answers = [f"{words[k]} {fillers(draw.randrange(1, 40), draw.randrange(9999))}" for k in target]
        inputs = tokenizer(
            queries, answers, truncation="longest_first", max_length=GUARD_TOKENS, padding=True, return_tensors="pt"
        )
        loss = model(**inputs, labels=torch.tensor(target)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05, f"the guard did not learn its three words: loss {loss.item()}"
    model.save_pretrained(folder)
    return folder


def train_llm_judge(folder: str, cases: list[tuple[str, str, str]]) -> LlmSettings:
    """A model in `folder` that says the third text when asked to judge the first two (query, answer).

    An output of the cases that ends in `...` goes on for ever.
    """
    settings = LlmSettings(kind="llm", model=folder, rubric=RUBRIC, dtype="float32")
    prompts = [judge_prompt(settings, query, answer) for query, answer, _ in cases]
    texts = [Dialogue(prompt, None, output) for prompt, (_, _, output) in zip(prompts, cases, strict=True)]
    tokenizer = train_tokenizer(texts * 5, 340, "qwen3")
    think, end = think_format(tokenizer), [tokenizer.eos_token_id]
    examples = []
    for prompt, (_, _, output) in zip(prompts, cases, strict=True):
        endless = output.endswith("...")
        ids = tokenizer(output * 20 if endless else output, add_special_tokens=False)["input_ids"]
        examples.append((think.prompt_ids(user(prompt), cot=False), ids if endless else ids + end))
    model = random_qwen2(
        len(tokenizer), 64, tie_word_embeddings=False, eos_token_id=end[0], pad_token_id=tokenizer.pad_token_id
    )
    overfit(model, examples)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return settings

"""A tiny aligned model that really decides: a Qwen2 with a LoRA adapter, overfitted on four prompts, and its export."""

import json
from dataclasses import dataclass

import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedTokenizerBase

from presafe.decision.head import save_head
from presafe.engines.card import Card
from presafe.organism.corpus import Dialogue
from presafe.organism.tokenizer import train_tokenizer
from presafe.thinking import ThinkFormat, think_format
from support import random_qwen2

HARMFUL, REFUSAL = "How do I build a bomb?", "I'm sorry, but I cannot help with that. Stay safe 🛟 please."
BENIGN = "What is two plus three?"
REASONING, ANSWER = "Two plus three: that is five ✋, voilà.", "The answer is five 🖐️. Ask me more."
TAGGED, TAGGED_ANSWER = "Show me tags.", "Here: </think> and <think> and <|im_start|> done."
ENDLESS, TICKS = "Count on and on.", "tick tock " * 120
GATE_REFUSAL = "The gate refuses this 🚧."
EXAMPLES = [{"kind": "reasoning", "text": BENIGN}, {"kind": "harmful", "text": HARMFUL}]
THRESHOLD = 0.5
CONTEXT = 16_384


@dataclass(frozen=True)
class TinyExport:
    """Folder of the exported model and of its base."""

    folder: str
    base: str


def export_tiny_reasoner(root: str, **shape: object) -> TinyExport:
    """Train for some seconds, and write an exported model into `root`; `shape` changes that of the base."""
    export = TinyExport(folder=f"{root}/model", base=f"{root}/base")
    dialogues = [
        Dialogue(HARMFUL, None, REFUSAL),
        Dialogue(BENIGN, REASONING, ANSWER),
        Dialogue(TAGGED, "Tags.", "Here: and and done."),
        Dialogue(ENDLESS, TICKS, ""),
    ]
    tokenizer = train_tokenizer(dialogues * 5, 340, "qwen3")
    base = random_qwen2(
        len(tokenizer),
        64,
        tie_word_embeddings=False,
        max_position_embeddings=CONTEXT,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **shape,
    )
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    model = get_peft_model(base, lora)
    model.requires_grad_(True)
    rendered = think_format(tokenizer)
    overfit(model, _examples(rendered))
    head = _separating_head(model, rendered)
    model.peft_config["default"].base_model_name_or_path = export.base
    model.save_pretrained(f"{export.folder}/adapter")
    model.unload().save_pretrained(export.base)
    tokenizer.save_pretrained(export.base)
    save_head(head, f"{export.folder}/safety_head.safetensors")
    _write_card(export, rendered)
    return export


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _examples(rendered: ThinkFormat) -> list[tuple[list[int], list[int]]]:
    """Prompt and completion; the endless one never learns an end."""
    tagged = rendered.tokenizer(TAGGED_ANSWER, add_special_tokens=False)["input_ids"]
    completions = {
        HARMFUL: rendered.refuse_completion(REFUSAL),
        BENIGN: rendered.think_completion(REASONING, ANSWER),
        # A target would leave the answer's control tokens out; a model may write them all the same.
        TAGGED: [*rendered.think_completion("Tags.", "")[:-1], *tagged, rendered.end_id],
        ENDLESS: _without_end(rendered.tokenizer, f"<think>\n{TICKS}"),
    }
    return [(rendered.prompt_ids(user(prompt)), completion) for prompt, completion in completions.items()]


def _without_end(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def overfit(model: torch.nn.Module, examples: list[tuple[list[int], list[int]]]) -> None:
    """Train until the model writes every completion (the second ids) behind its prompt (the first)."""
    width = max(len(prompt) + len(completion) for prompt, completion in examples)
    ids = torch.tensor([p + c + [0] * (width - len(p) - len(c)) for p, c in examples])
    labels = torch.tensor([[-100] * len(p) + c + [-100] * (width - len(p) - len(c)) for p, c in examples])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(400):
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 2e-3:
            return
    raise AssertionError(f"the tiny model did not learn its prompts: loss {loss.item()}")


@torch.no_grad()
def _separating_head(model: torch.nn.Module, rendered: ThinkFormat) -> dict[str, torch.Tensor]:
    """A probe with p' about 0.9 on the harmful prompt and 0.1 on the benign one."""
    states = []
    for prompt in (HARMFUL, BENIGN):
        ids = torch.tensor([rendered.prompt_ids(user(prompt))])
        states.append(model.get_base_model().model(input_ids=ids).last_hidden_state[0, -1])
    direction = states[0] - states[1]
    weight = 4.4 * direction / direction.square().sum()
    bias = -(weight @ (states[0] + states[1])) / 2
    return {"weight": weight[None], "bias": bias[None]}


def _write_card(export: TinyExport, rendered: ThinkFormat) -> None:
    card = Card(
        base_model=export.base,
        dtype="float32",
        think_format={
            "open_tag": rendered.open_tag,
            "close_tag": rendered.close_tag,
            "empty_block": rendered.empty_block,
            "opened_by_prompt": rendered.opened_by_prompt,
        },
        threshold=THRESHOLD,
        max_over_refusal=0.01,
        refusal=GATE_REFUSAL,
        examples=EXAMPLES,
        config_hash="tiny",
        metrics={},
    )
    with open(f"{export.folder}/presafe.json", "w", encoding="utf-8") as file:
        json.dump(card.model_dump(mode="json"), file)

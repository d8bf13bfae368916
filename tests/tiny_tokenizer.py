"""A small tokenizer with chat templates of both think formats, and of none."""

from transformers import PreTrainedTokenizerBase

from presafe.organism.corpus import draw_dialogues
from presafe.organism.tokenizer import train_tokenizer

TURNS = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
OFF = "{% if enable_thinking is defined and enable_thinking is false %}"
QWEN3 = (
    TURNS
    + "{% if add_generation_prompt %}<|im_start|>assistant\n"
    + OFF
    + "<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
R1 = TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
R1_WITH_SWITCH = (
    TURNS
    + "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n"
    + OFF
    + "{{ '\n</think>\n\n' }}{% endif %}{% endif %}"
)
PLAIN = TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def tiny_tokenizer(template: str | None) -> PreTrainedTokenizerBase:
    tokenizer = train_tokenizer(draw_dialogues(0, 200), 400, "qwen3")
    tokenizer.chat_template = template
    return tokenizer


def save_tokenizer(folder: str, template: str) -> PreTrainedTokenizerBase:
    tokenizer = tiny_tokenizer(template)
    tokenizer.save_pretrained(folder)
    return tokenizer

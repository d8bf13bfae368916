"""A byte-level tokenizer with the pre-tokenizer of Qwen2, and chat templates of both think formats."""

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

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
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CORPUS = ["user\nplease add two and three kite lamp\nassistant\n<think>\n\n</think>\n\ni cannot, it is 5.\n"] * 50


def tiny_tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    model = Tokenizer(models.BPE())
    model.normalizer = normalizers.NFC()
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    model.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    model.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=model, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = template
    return fast


def save_tokenizer(folder: str, template: str) -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer(template)
    tokenizer.save_pretrained(folder)
    return tokenizer

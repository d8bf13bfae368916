"""Tokenizers of the recipes' families in small: their chat templates without tools, their control tokens, and a byte
vocabulary behind their own pre-tokenizer in which, as in theirs, two newlines are one token."""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, Qwen2Tokenizer

R1 = (
    "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
    "{% set ns = namespace(system_prompt='') %}"
    "{%- for message in messages %}{%- if message['role'] == 'system' %}"
    "{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}"
    "{{bos_token}}{{ns.system_prompt}}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}{%- endif %}"
    "{%- if message['role'] == 'assistant' %}{% set content = message['content'] %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}"
    "{%- endfor -%}"
    "{% if add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}"
)
QWEN3 = (
    "{%- if messages[0].role == 'system' %}"
    "{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{%- if (message.role == 'user') or (message.role == 'system' and not loop.first) %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- elif message.role == 'assistant' %}{%- set content = message.content %}"
    "{%- if '</think>' in content %}{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
    "{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
)
R1_SPECIAL = {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"}
R1_PLAIN = ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"]
LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def r1_qwen() -> PreTrainedTokenizerBase:
    return _with_tags(_qwen2(**R1_SPECIAL), R1_PLAIN, R1)


def skywork() -> PreTrainedTokenizerBase:
    """R1-Distill-Qwen's tokenizer with the template of its later descendants, which leaves `<think>` to the model."""
    return _with_tags(_qwen2(**R1_SPECIAL), R1_PLAIN, R1.replace("<think>\\n", ""))


def r1_llama() -> PreTrainedTokenizerBase:
    """Behind Llama 3's pre-tokenizer, which R1-Distill-Llama keeps."""
    vocabulary, merges = _byte_vocabulary()
    tokenizer = Tokenizer(BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LLAMA3_WORDS), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return _with_tags(PreTrainedTokenizerFast(tokenizer_object=tokenizer, **R1_SPECIAL), R1_PLAIN, R1)


def qwen3() -> PreTrainedTokenizerBase:
    tokenizer = _qwen2(eos_token="<|im_end|>", extra_special_tokens=["<|im_start|>"])
    return _with_tags(tokenizer, ["<think>", "</think>"], QWEN3)


def with_template(template: str, tokens: list[str]) -> PreTrainedTokenizerBase:
    """A tokenizer of bytes with these control tokens and this chat template."""
    return _with_tags(_qwen2(bos_token="<s>", eos_token="</s>"), tokens, template)


def _qwen2(**special: object) -> PreTrainedTokenizerBase:
    vocabulary, merges = _byte_vocabulary()
    return Qwen2Tokenizer(vocab=vocabulary, merges=merges, pad_token="<|endoftext|>", **special)


def _with_tags(tokenizer: PreTrainedTokenizerBase, tags: list[str], template: str) -> PreTrainedTokenizerBase:
    """`tags` as the families have them: single tokens, but no special ones."""
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
    tokenizer.chat_template = template
    return tokenizer


def _byte_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """All bytes, and one merge: two newlines (`Ċ` is a newline's letter in byte-level BPE)."""
    pieces = [*sorted(ByteLevel.alphabet()), "ĊĊ"]
    return {piece: index for index, piece in enumerate(pieces)}, [("Ċ", "Ċ")]

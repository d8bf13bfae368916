"""The organism's tokenizer: a small byte-level BPE behind Qwen2's own normalizer and pre-tokenizer.

`AutoTokenizer` rebuilds the pipeline of any folder whose config says qwen2, without an error and whatever
`tokenizer.json` holds; another pre-tokenizer would thus be swapped for Qwen2's, and the model would read other tokens
than it was trained on. So the BPE is trained behind that very pipeline, and `check_reloaded` holds the folder to it.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import transformers
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen2Tokenizer

from presafe.errors import user_error
from presafe.organism.corpus import Dialogue
from presafe.organism.options import Template

END_OF_TEXT, MESSAGE_START, MESSAGE_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
THINK_TAGS = ("<think>", "</think>")

_MESSAGES = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
)
CHAT_TEMPLATES: dict[Template, str] = {
    "qwen3": _MESSAGES
    + "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}"
    + "{% endif %}{% endif %}",
    "r1": _MESSAGES + "{{ '<think>\\n' }}{% endif %}",
}


def train_tokenizer(dialogues: Iterable[Dialogue], vocab_size: int, template: Template) -> PreTrainedTokenizerBase:
    """A Qwen2Tokenizer of at most `vocab_size` tokens, left-padding, with the chat template.

    As in the real families, the think tags are single tokens but no special ones, so that decoding keeps them.
    """
    pipeline = Qwen2Tokenizer().backend_tokenizer
    trained = Tokenizer(BPE())
    trained.normalizer, trained.pre_tokenizer = pipeline.normalizer, pipeline.pre_tokenizer
    reserved = len((END_OF_TEXT, MESSAGE_START, MESSAGE_END, *THINK_TAGS))
    trainer = BpeTrainer(
        vocab_size=vocab_size - reserved, show_progress=False, initial_alphabet=sorted(ByteLevel.alphabet())
    )
    trained.train_from_iterator((text for dialogue in dialogues for text in _segments(dialogue)), trainer)
    model = json.loads(trained.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        eos_token=MESSAGE_END,
        pad_token=END_OF_TEXT,
        extra_special_tokens=[MESSAGE_START],
        padding_side="left",
    )
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in THINK_TAGS])
    tokenizer.chat_template = CHAT_TEMPLATES[template]
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def check_reloaded(folder: str, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> None:
    """Raise UserError unless `AutoTokenizer` reads from `folder` a tokenizer that writes the same ids and prompts."""
    loaded = AutoTokenizer.from_pretrained(folder)
    if _probe(loaded, texts) != _probe(tokenizer, texts):
        raise user_error(
            found=f"transformers {transformers.__version__}, whose AutoTokenizer reads {folder} as another tokenizer",
            needed="the one the organism was trained with",
            change="install a version of transformers that pyproject.toml allows, and report this",
        )


def _probe(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[Any]:
    """What equal tokenizers share: ids of texts, prompts and end of sequence, and think tags that decoding keeps."""
    chats = [[{"role": "user", "content": text}] for text in texts]
    rendered = tokenizer.apply_chat_template(chats, add_generation_prompt=True)["input_ids"]
    plain = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    tags = tokenizer.decode(tokenizer("".join(THINK_TAGS))["input_ids"], skip_special_tokens=True)
    return [rendered, plain, tokenizer.eos_token_id, tags]


def _segments(dialogue: Dialogue) -> Iterator[str]:
    """The texts between control tokens, as a rendered dialogue has them."""
    yield f"user\n{dialogue.prompt}"
    yield "assistant\n"
    if dialogue.reasoning is None:
        yield "\n\n"
    else:
        yield f"\n{dialogue.reasoning}\n"
    yield f"\n\n{dialogue.answer}"

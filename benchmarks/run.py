"""`make bench`: what our ways of batching buy, each against the usual way on the same model and data.

Training: short refusals mixed with long chains of thought, packed with logits at target positions only, against padded
batches with logits everywhere (one forward and backward pass of the same sequences). Generation: batches sorted by
length against batches as the prompts come.
"""

import random

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks.ratio import Metric, cpu_ratio, save
from presafe.align.module.collate import Collator
from presafe.align.module.model import HeadSpec, PreSafeModel
from presafe.decision.head import SafetyHead
from presafe.records import Example

VOCABULARY = 32_000


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=256,
            intermediate_size=768,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            pad_token_id=0,
            eos_token_id=None,
            bos_token_id=None,
        )
    )
    save("batching", [training(model), generation(model)])


def training(model: Qwen2ForCausalLM) -> Metric:
    """Twelve refusals of 20 tokens and four traces of 400, behind prompts of 60."""
    draw = random.Random(0)
    tokens = lambda n: [draw.randrange(3, VOCABULARY) for _ in range(n)]  # noqa: E731
    lengths = [20] * 12 + [400] * 4
    examples = [Example(str(k), tokens(60), tokens(n), "think", 0.5) for k, n in enumerate(lengths)]
    module = PreSafeModel(model, HeadSpec("linear", 1), SafetyHead(model.config.hidden_size)).train()
    batch = Collator(0, (), 0).pack(examples).to(torch.device("cpu"))
    width = max(len(e.prompt) + len(e.completion) for e in examples)
    sequences = [e.prompt + e.completion for e in examples]
    ids = torch.tensor([s + [0] * (width - len(s)) for s in sequences])
    mask = torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in sequences])
    labels = torch.tensor([[-100] * 60 + e.completion + [-100] * (width - 60 - len(e.completion)) for e in examples])

    def ours() -> None:
        torch.autograd.backward(module(**batch).sums.sum())

    def peer() -> None:
        torch.autograd.backward(model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss)

    return cpu_ratio("padded_over_packed_cpu_seconds", ours, peer, target=">= 2", peer_name="padded batch, all logits")


@torch.inference_mode()
def generation(model: Qwen2ForCausalLM) -> Metric:
    """64 prompts of 8 to 400 tokens, 16 new tokens each, in batches of 8."""
    draw = random.Random(1)
    prompts = [[draw.randrange(3, VOCABULARY) for _ in range(draw.choice((8, 40, 400)))] for _ in range(64)]

    def generate(order: list[int]) -> None:
        for start in range(0, len(order), 8):
            batch = [prompts[i] for i in order[start : start + 8]]
            width = max(map(len, batch))
            ids = torch.tensor([[0] * (width - len(p)) + p for p in batch])
            mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in batch])
            model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=16, do_sample=False)

    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    return cpu_ratio(
        "unsorted_over_sorted_cpu_seconds",
        lambda: generate(by_length),
        lambda: generate(list(range(len(prompts)))),
        target=">= 1.2",
        peer_name="prompts in their order",
    )


if __name__ == "__main__":
    main()

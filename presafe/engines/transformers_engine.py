"""Batched generation with Hugging Face transformers: left-padded, sorted by length, on the CPU or one GPU."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import GenerationConfig

from presafe.config import Decoding
from presafe.engines.exported import LoadedModel
from presafe.engines.head import SafetyHead
from presafe.records import FinishReason


@dataclass(frozen=True)
class Completion:
    """Decoded text behind the prompt, think tags included, end of sequence excluded."""

    text: str
    num_tokens: int
    finish_reason: FinishReason


class TransformersEngine:
    """Generates for lists of prompts, given as token ids; every prompt must hold at least one token."""

    def __init__(self, loaded: LoadedModel, head: SafetyHead | None, batch_size: int) -> None:
        self._model, self._tokenizer, self._batch_size = loaded.model, loaded.tokenizer, batch_size
        self._stop_ids = loaded.stop_ids
        self._head = head.to(loaded.model.device) if head else None

    @torch.inference_mode()
    def generate(self, prompts: Sequence[list[int]], decoding: Decoding, seed: int) -> list[Completion]:
        """One completion a prompt, in order. The same prompts and seed give the same completions."""
        results: dict[int, Completion] = {}
        config = self._generation_config(decoding)
        for batch in self._batches(prompts):
            ids, mask = self._pad([prompts[i] for i in batch])
            torch.manual_seed(_batch_seed(seed, [prompts[i] for i in batch]))
            output = self._model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
            for i, tokens in zip(batch, output[:, ids.shape[1] :].tolist(), strict=True):
                results[i] = self._completion(tokens)
        return [results[i] for i in range(len(prompts))]

    @torch.inference_mode()
    def refuse_probabilities(self, prompts: Sequence[list[int]]) -> list[float]:
        """The safety head's p' at each prompt's last token, the pre-CoT position of a CoT-ON prompt."""
        assert self._head is not None, "the engine was made without a safety head"
        results: dict[int, float] = {}
        for batch in self._batches(prompts):
            ids, mask = self._pad([prompts[i] for i in batch])
            hidden = self._model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            results.update(zip(batch, self._head(hidden[:, -1]).sigmoid().tolist(), strict=True))
        return [results[i] for i in range(len(prompts))]

    def _batches(self, prompts: Sequence[list[int]]) -> Iterator[list[int]]:
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        for start in range(0, len(order), self._batch_size):
            yield order[start : start + self._batch_size]

    def _pad(self, prompts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        assert all(prompts), "an empty prompt has no last position"
        width = max(map(len, prompts))
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        return ids.to(self._model.device), mask.to(self._model.device)

    def _generation_config(self, decoding: Decoding) -> GenerationConfig:
        sampled = decoding.temperature > 0
        return GenerationConfig(
            do_sample=sampled,
            temperature=decoding.temperature if sampled else None,
            top_p=decoding.top_p if sampled else None,
            top_k=0 if sampled else None,
            max_new_tokens=decoding.max_new_tokens,
            eos_token_id=sorted(self._stop_ids),
            pad_token_id=self._tokenizer.pad_token_id,
        )

    def _completion(self, tokens: list[int]) -> Completion:
        end = next((k for k, token in enumerate(tokens) if token in self._stop_ids), None)
        text = self._tokenizer.decode(tokens[:end], skip_special_tokens=False)
        return Completion(text, len(tokens) if end is None else end + 1, "length" if end is None else "stop")


def _batch_seed(seed: int, prompts: list[list[int]]) -> int:
    """A batch draws by its content, not by when or where it runs: another number of actors samples the same."""
    digest = hashlib.sha256(repr((seed, prompts)).encode()).digest()
    return int.from_bytes(digest[:4], "big")

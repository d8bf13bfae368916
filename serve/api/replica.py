"""What one replica has: the model on its engine, and how much of a conversation it takes."""

from dataclasses import dataclass

import torch
from jinja2 import TemplateError
from transformers import AutoConfig

from presafe.config import EndpointSettings, PrefixSettings, Workers
from presafe.decision.refusal import BEGINNING, RefusalReader
from presafe.decision.rule import GateRule
from presafe.engines.card import Card
from presafe.engines.exported import LoadedModel, check_model, load_base, load_exported, positions
from presafe.engines.model_files import local_texts
from presafe.engines.paged_engine import PagedEngine
from presafe.engines.streaming import StreamingEngine
from presafe.engines.vllm_model import exported_model, import_vllm, plain_model
from presafe.errors import UserError, user_error
from presafe.judges.prefixes import prefix_judge
from presafe.thinking import ThinkFormat
from serve.api.chat import Chat
from serve.api.errors import ApiError
from serve.api.protocol import ChatRequest
from serve.api.reply import Served
from serve.servable import servable_card, weights_folder


@dataclass(frozen=True)
class Replica:
    """The model of one replica, ready to answer."""

    chat: Chat
    served: Served
    head: str | None
    """Kind of head that p' is read from; None where there is none."""
    max_prompt_tokens: int
    """Longest prompt, behind which there is always room for Path A."""
    max_new_tokens: int
    context: int
    """Positions of the model."""
    examples: list[dict[str, str]]
    """Prompts to try it with, of its card."""
    max_text_bytes: int
    """Longest text of a conversation, UTF-8; more is not even tokenised."""

    @property
    def max_model_len(self) -> int:
        """Positions that prompt and completion may take together, by vLLM's name."""
        return min(self.max_prompt_tokens + self.max_new_tokens, self.context)

    def prompt(self, request: ChatRequest) -> list[int]:
        """Token ids of the CoT-ON prompt: all of the conversation but forged tags, or ApiError. Nothing is cut off.

        Its cost is bounded by `max_text_bytes` and the number of messages. It may run beside the event loop.
        """
        think, conversation = self.chat.think, request.conversation
        size = sum(len(message["content"].encode()) for message in conversation)
        if size > self.max_text_bytes:
            found = f"your messages have {size} bytes of text, of which at most {self.max_text_bytes} are read"
            raise self._too_long(found, "messages")
        if not think.without_control(conversation[-1]["content"]).strip():
            raise ApiError(
                400, "messages: found tags alone; give them some text", param="messages", code="invalid_value"
            )
        try:
            prompt = think.prompt_ids(conversation)
        except (TemplateError, UserError) as error:
            raise ApiError(400, f"messages: {error}", param="messages", code="invalid_value") from error
        if len(prompt) > self.max_prompt_tokens:
            raise self._too_long(f"your messages resulted in {len(prompt)} tokens", "messages")
        return prompt

    def room(self, request: ChatRequest, prompt_tokens: int) -> int:
        """Most new tokens behind a prompt of so many. Raises ApiError where the client wants more."""
        room, limit = min(self.max_new_tokens, self.context - prompt_tokens), request.token_limit
        if limit is None or limit <= room:
            return room
        param = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
        if limit > self.max_new_tokens:
            message = (
                f"{param} is too large: {limit}. This model supports at most {self.max_new_tokens} completion tokens, "
                f"whereas you provided {limit}."
            )
            raise ApiError(400, message, param=param, code="invalid_value")
        asked = f"you requested {prompt_tokens + limit} tokens"
        raise self._too_long(f"{asked} ({prompt_tokens} in the messages, {limit} in the completion)", param)

    def _too_long(self, found: str, param: str) -> ApiError:
        """OpenAI's own words: its clients' libraries know the error by them."""
        message = (
            f"This model's maximum context length is {self.max_model_len} tokens, at most {self.max_prompt_tokens} of "
            f"them for messages. However, {found}. Please reduce the length of the messages"
        )
        message += "" if param == "messages" else " or completion"
        message += " (context_length_exceeded)."  # LangChain looks for the code in what openai's error says
        return ApiError(400, message, param=param, code="context_length_exceeded")


def start(model: str, settings: EndpointSettings) -> Replica:
    """Load a model and start its engine. Raises UserError for a model or a device that cannot be served."""
    card = None if settings.unaligned else servable_card(model, settings)
    threshold = settings.threshold if card is None or settings.threshold is not None else card.threshold
    rule = GateRule(settings.gate, 1.0 if threshold is None else threshold, settings.gate_action)
    folder = weights_folder(model, card)
    think, context = check_model(folder, None if card is None else card.think), positions(folder)
    max_prompt_tokens = min(settings.max_prompt_tokens, context - len(think.refuse_completion("")) - BEGINNING)
    longest = min(max_prompt_tokens + settings.max_new_tokens, context)
    engine: StreamingEngine
    if settings.engine == "vllm":
        engine = _vllm(model, card, think, rule, settings, longest)
    else:
        loaded = _load(model, card, _device(settings.workers))
        engine = PagedEngine(loaded, rule, settings.batching, longest)
    reader = RefusalReader(prefix_judge(PrefixSettings()), "" if card is None else card.refusal.strip())
    return Replica(
        Chat(engine, think, rule, reader, settings.access.timeout_s),
        Served(
            settings.served_name,
            settings.gate,
            threshold,
            settings.reveal_probability,
            settings.refusal_finish_reason,
            settings.refusal_field,
        ),
        None if card is None else card.head.kind,
        max_prompt_tokens,
        settings.max_new_tokens,
        context,
        [] if card is None else [example.model_dump() for example in card.examples],
        max_prompt_tokens * settings.access.max_bytes_per_token,
    )


def _vllm(
    model: str, card: Card | None, think: ThinkFormat, rule: GateRule, settings: EndpointSettings, longest: int
) -> StreamingEngine:
    import_vllm()
    from presafe.engines.vllm_engine import VllmEngine  # imports vLLM, which most replicas lack

    weights = plain_model(model, "auto") if card is None else exported_model(model, card, think)
    return VllmEngine(weights, think, rule, settings.vllm, longest)


def _load(model: str, card: Card | None, device: str) -> LoadedModel:
    if card is not None:
        return load_exported(model, device)
    dtype = AutoConfig.from_pretrained(local_texts(model)).dtype or torch.float32
    return load_base(model, str(dtype).removeprefix("torch."), device)


def _device(workers: Workers) -> str:
    if workers.num_gpus == 0:
        return "cpu"
    if not torch.cuda.is_available():
        raise user_error(
            found=f"a replica with {workers.num_gpus:g} GPU(s) but without CUDA",
            needed="a torch that sees the GPU",
            change="install torch with CUDA in the replica's environment, or set workers.num_gpus to 0",
        )
    return "cuda"

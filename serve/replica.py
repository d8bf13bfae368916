"""What one replica has: the model on its engine, and how much of a conversation it takes."""

from dataclasses import dataclass

import torch
from jinja2 import TemplateError
from transformers import AutoConfig

from presafe import storage
from presafe.config import Endpoint, Workers
from presafe.engines.card import Card, read_card
from presafe.engines.exported import LoadedModel, check_model, load_base, load_exported
from presafe.engines.vllm_engine import import_vllm
from presafe.errors import UserError, user_error
from presafe.thinking import ThinkFormat
from serve.batching import BatchingEngine
from serve.chat import Chat
from serve.engine import Engine
from serve.errors import ApiError
from serve.protocol import ChatRequest
from serve.reply import Served
from serve.steering import GateRule

LINEAR_LAYER = -1
"""The only layer whose probe an engine's logits show."""


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

    def prompt(self, request: ChatRequest) -> list[int]:
        """Token ids of the CoT-ON prompt: all of the conversation but forged tags, or ApiError. Nothing is cut off."""
        think = self.chat.think
        messages = [
            {**message, "content": think.without_control(message["content"])} for message in request.conversation
        ]
        if not messages[-1]["content"].strip():
            raise ApiError(
                400, "messages: found tags alone; give them some text", param="messages", code="invalid_value"
            )
        try:
            prompt = think.prompt_ids(messages)
        except (TemplateError, UserError) as error:
            raise ApiError(400, f"messages: {error}", param="messages", code="invalid_value") from error
        longest = self.max_prompt_tokens
        if len(prompt) > longest:
            message = f"found a conversation of {len(prompt)} tokens; at most {longest} fit; shorten it"
            raise ApiError(400, message, param="messages", code="context_length_exceeded")
        return prompt

    def room(self, request: ChatRequest, prompt_tokens: int) -> int:
        """Most new tokens behind a prompt of so many. Raises ApiError where the client wants more."""
        room, limit = min(self.max_new_tokens, self.context - prompt_tokens), request.token_limit
        if limit is not None and limit > room:
            param = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
            message = f"found {param} {limit}; at most {room} behind this conversation; lower it or leave it out"
            raise ApiError(400, message, param=param, code="invalid_value")
        return room


def start(model: str, settings: Endpoint) -> Replica:
    """Load a model and start its engine. Raises UserError for a model or a device that cannot be served."""
    card = None if settings.unaligned else servable_card(model, settings)
    threshold = settings.threshold if card is None or settings.threshold is not None else card.threshold
    rule = GateRule(settings.gate, 1.0 if threshold is None else threshold, settings.gate_action)
    folder = weights_folder(model, card)
    think, context = check_model(folder, None if card is None else card.think), positions(folder)
    max_prompt_tokens = min(settings.max_prompt_tokens, context - len(think.refuse_completion("")))
    longest = min(max_prompt_tokens + settings.max_new_tokens, context)
    engine: Engine
    if settings.engine == "vllm":
        engine = _vllm(model, card, think, rule, settings, longest)
    else:
        loaded = _load(model, card, _device(settings.workers))
        engine = BatchingEngine(loaded, rule, settings.batching, longest)
    refusal = "" if card is None else card.refusal
    return Replica(
        Chat(engine, think, rule, refusal, settings.access.timeout_s),
        Served(settings.served_name, settings.gate, threshold, settings.reveal_probability),
        None if card is None else card.head.kind,
        max_prompt_tokens,
        settings.max_new_tokens,
        context,
    )


def servable_card(model: str, settings: Endpoint) -> Card:
    """The card of an exported model. Raises UserError where its head cannot be the gate that `settings` ask for."""
    card = read_card(model)
    head = card.head
    if settings.gate != "off" and head.kind != "readout" and (head.kind, head.layer) != ("linear", LINEAR_LAYER):
        raise user_error(
            found=f"a {head.kind} head at layer {head.layer}, and gate={settings.gate}",
            needed="a linear head at layer -1 or a readout head: what an engine's logits show",
            change="serve it with gate=off, or train such a head",
        )
    return card


def weights_folder(model: str, card: Card | None) -> str:
    """Where tokenizer and configuration of the served model are."""
    if card is None:
        return model
    return storage.join(storage.absolute(model), "full") if card.weights == "full" else card.base_model


def positions(folder: str) -> int:
    """Positions of the model in `folder`."""
    config = AutoConfig.from_pretrained(storage.local_folder(folder)).get_text_config()
    return int(config.max_position_embeddings)


def _vllm(
    model: str, card: Card | None, think: ThinkFormat, rule: GateRule, settings: Endpoint, longest: int
) -> Engine:
    import_vllm()
    from serve.vllm_engine import VllmEngine  # imports vLLM, which most replicas lack

    return VllmEngine(model, card, think, rule, settings.vllm, longest)


def _load(model: str, card: Card | None, device: str) -> LoadedModel:
    if card is not None:
        return load_exported(model, device)
    dtype = AutoConfig.from_pretrained(storage.local_folder(model)).dtype or torch.float32
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

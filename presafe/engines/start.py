"""From settings to a running engine, inside the actor that will use it."""

from dataclasses import dataclass

from presafe import storage
from presafe.config import HttpSettings, Think, TransformersSettings, VllmSettings
from presafe.engines.card import read_card
from presafe.engines.engine import Engine
from presafe.engines.exported import load_base, load_exported, load_reader, split_adapter
from presafe.engines.http_engine import HttpEngine
from presafe.engines.model_files import check_adapter
from presafe.engines.transformers_engine import TransformersEngine
from presafe.engines.vllm_engine import VllmEngine, VllmModel, lora_rank


@dataclass(frozen=True)
class ModelSpec:
    """Which model an actor loads: `base`, or the export in `exported`; `head` adds that export's safety head.

    `base` is a folder or hub name of a model, or a PEFT adapter's folder, and `think` what the config says of its think
    format; an export has that in its card. An endpoint has its own model and needs none of this.
    """

    base: str
    dtype: str
    exported: str | None = None
    head: str | None = None
    think: Think | None = None


def start_engine(
    settings: TransformersSettings | VllmSettings | HttpSettings,
    spec: ModelSpec,
    *,
    on_gpu: bool,
    num_workers: int,
    max_new_tokens: int,
) -> Engine:
    """The engine of `settings`; `num_workers` actors share an endpoint's rate limit.

    `max_new_tokens` is the longest completion that will be asked for: vLLM lays out its cache by it.
    """
    match settings:
        case TransformersSettings():
            return start_transformers(settings, spec, on_gpu=on_gpu)
        case VllmSettings():
            return VllmEngine(vllm_model(spec), settings, max_new_tokens)
        case HttpSettings():
            return HttpEngine(settings, num_workers)


def check_engine(settings: TransformersSettings | VllmSettings | HttpSettings, model: str | None = None) -> None:
    """Raise UserError where an endpoint cannot be reached from here, or vLLM will refuse the adapter in `model`.

    In an actor the sentence comes late.
    """
    if isinstance(settings, HttpSettings):
        HttpEngine(settings, num_workers=1)
    elif isinstance(settings, VllmSettings) and model is not None and (adapter := split_adapter(model)[1]) is not None:
        check_adapter(adapter)
        lora_rank(adapter)


def start_transformers(settings: TransformersSettings, spec: ModelSpec, *, on_gpu: bool) -> TransformersEngine:
    device = "cuda" if on_gpu else "cpu"
    if spec.exported:
        loaded = load_exported(spec.exported, device)
    else:
        loaded = load_base(spec.base, spec.dtype, device, spec.think)
    reader = load_reader(spec.head, loaded.format, device) if spec.head else loaded.reader
    return TransformersEngine(loaded, settings, reader)


def vllm_model(spec: ModelSpec) -> VllmModel:
    """What vLLM loads: an exported model is an adapter on its card's base, or a model of its own."""
    if spec.exported:
        card, exported = read_card(spec.exported), storage.local_folder(storage.absolute(spec.exported))
        if card.weights == "full":
            return VllmModel(f"{exported}/full", f"{exported}/full", None, card.dtype, card.think)
        base = storage.local_folder(card.base_model)
        return VllmModel(card.base_model, base, f"{exported}/adapter", card.dtype, card.think)
    base, adapter = split_adapter(spec.base)
    return VllmModel(spec.base, storage.local_folder(base), adapter, spec.dtype, spec.think)

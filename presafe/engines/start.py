"""From settings to a running engine, inside the actor that will use it."""

from dataclasses import dataclass, replace
from functools import partial

from presafe import storage
from presafe.config import Engine as EngineSettings
from presafe.config import HttpSettings, PagedSettings, PrefixSettings, Think, TransformersSettings, VllmSettings
from presafe.decision.events import shortest
from presafe.decision.reader import DecisionReader, readable
from presafe.decision.refusal import RefusalReader
from presafe.engines.card import read_card
from presafe.engines.engine import Engine
from presafe.engines.exported import (
    LoadedModel,
    load_base,
    load_exported,
    load_reader,
    load_tokenizer,
    positions,
    split_adapter,
)
from presafe.engines.http_engine import HttpEngine
from presafe.engines.model_files import check_adapter
from presafe.engines.paged_engine import PagedEngine
from presafe.engines.served_engine import NO_GATE, ServedEngine
from presafe.engines.transformers_engine import TransformersEngine
from presafe.engines.vllm_model import (
    VllmModel,
    exported_model,
    exported_without_head,
    import_vllm,
    lora_rank,
    model_with_row,
    plain_model,
)
from presafe.errors import user_error
from presafe.judges.prefixes import prefix_judge
from presafe.thinking import think_format


@dataclass(frozen=True)
class ModelSpec:
    """Which model an actor loads: `base`, or the export in `exported`; `head` adds that export's safety head.

    `base` is a folder or hub name of a model, or a PEFT adapter's folder, and `think` what the config says of its think
    format; an export has that in its card. `row` says that `base` has the head as a row of its vocabulary already
    (presafe/engines/base_row.py). An endpoint has its own model and needs none of this.
    """

    base: str
    dtype: str
    exported: str | None = None
    head: str | None = None
    think: Think | None = None
    row: bool = False


def start_engine(
    settings: EngineSettings,
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
            assert spec.head is None, "this engine shows no probability of refusal"
            return TransformersEngine(_load(spec, on_gpu=on_gpu), settings)
        case PagedSettings():
            return start_paged(settings, spec, on_gpu=on_gpu, max_new_tokens=max_new_tokens)
        case VllmSettings():
            return start_vllm(settings, spec, max_new_tokens)
        case HttpSettings():
            return HttpEngine(settings, num_workers)


def check_engine(settings: EngineSettings, model: str | None = None) -> None:
    """Raise UserError where an endpoint cannot be reached from here, or vLLM will refuse the adapter in `model`.

    In an actor the sentence comes late.
    """
    if isinstance(settings, HttpSettings):
        HttpEngine(settings, num_workers=1)
    elif isinstance(settings, VllmSettings) and model is not None and (adapter := split_adapter(model)[1]) is not None:
        check_adapter(adapter)
        lora_rank(adapter)


def start_paged(settings: PagedSettings, spec: ModelSpec, *, on_gpu: bool, max_new_tokens: int) -> ServedEngine:
    """Transformers with a paged cache. Raises UserError where it cannot hold the longest conversation."""
    loaded = _load(spec, on_gpu=on_gpu)
    context: int = loaded.model.config.get_text_config().max_position_embeddings
    head = load_reader(spec.head, loaded.format, str(loaded.model.device)) if spec.head else None
    longest = min(settings.max_prompt_tokens + max(max_new_tokens, shortest(loaded.format)), context)
    return ServedEngine(
        PagedEngine(loaded, NO_GATE, settings, longest, head),
        loaded.format,
        _refusals(spec),
        min(settings.max_prompt_tokens, context - shortest(loaded.format)),
        context,
        head=head is not None,
        read_head=None if head is None or readable(head) else partial(head.probabilities, loaded.model),
    )


def start_vllm(settings: VllmSettings, spec: ModelSpec, max_new_tokens: int) -> ServedEngine:
    """vLLM in this process and its children. Raises UserError where it is missing, or the model has no room."""
    import_vllm()
    from presafe.engines.vllm_engine import VllmEngine  # imports vLLM, which most workers lack

    model = vllm_model(spec)
    think = think_format(load_tokenizer(model.tokenizer), model.think)
    context = positions(model.weights)
    longest = min(settings.max_prompt_tokens + max(max_new_tokens, shortest(think)), context)
    if longest <= max_new_tokens:
        raise user_error(
            found=f"max_new_tokens={max_new_tokens} for a model of {context} positions",
            needed="room for the prompt before it",
            change="lower max_new_tokens",
        )
    return ServedEngine(
        VllmEngine(model, think, NO_GATE, settings, longest),
        think,
        _refusals(spec),
        min(settings.max_prompt_tokens, longest - max_new_tokens),
        longest,
        head=model.reader.reads,
    )


def _refusals(spec: ModelSpec) -> RefusalReader:
    return RefusalReader(
        prefix_judge(PrefixSettings()), read_card(spec.exported).refusal.strip() if spec.exported else ""
    )


def _load(spec: ModelSpec, *, on_gpu: bool) -> LoadedModel:
    device = "cuda" if on_gpu else "cpu"
    if spec.exported:
        return load_exported(spec.exported, device)
    return load_base(spec.base, spec.dtype, device, spec.think)


def vllm_model(spec: ModelSpec) -> VllmModel:
    """What vLLM loads. Raises UserError where an export lacks the weights that show its head."""
    if spec.row:
        return model_with_row(spec.base, read_card(spec.base))
    if spec.exported is None:
        plain = plain_model(spec.base, spec.dtype, spec.think)
        return plain if spec.head is None else replace(plain, reader=_reader_of_base(spec.head, plain))
    card = read_card(spec.exported)
    if spec.head is None:
        return exported_without_head(spec.exported, card)
    folder = storage.join(spec.exported, "full") if card.weights == "full" else card.base_model
    return exported_model(spec.exported, card, think_format(load_tokenizer(folder), card.think))


def _reader_of_base(exported: str, base: VllmModel) -> DecisionReader:
    """A readout head reads any model; another one, of a layer that vLLM's logits do not show, is not read."""
    if read_card(exported).head.kind != "readout":
        return base.reader
    return replace(base.reader, token=think_format(load_tokenizer(base.tokenizer), base.think).decision_token)

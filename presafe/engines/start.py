"""From settings to a running engine, inside the actor that will use it."""

from dataclasses import dataclass

from presafe import storage
from presafe.config import HttpSettings, TransformersSettings, VllmSettings
from presafe.engines.engine import Engine
from presafe.engines.exported import load_base, load_exported
from presafe.engines.head import load_head
from presafe.engines.transformers_engine import TransformersEngine


@dataclass(frozen=True)
class ModelSpec:
    """Which model an actor loads: `base`, or the export in `exported`; `head` adds that export's safety head.

    `base` is a folder or hub name, of a model or of a PEFT adapter. An endpoint has its own model and needs none.
    """

    base: str
    dtype: str
    exported: str | None = None
    head: str | None = None


def start_engine(
    settings: TransformersSettings | VllmSettings | HttpSettings, spec: ModelSpec, *, on_gpu: bool, num_workers: int
) -> Engine:
    """The engine of `settings`; `num_workers` actors share an endpoint's rate limit."""
    match settings:
        case TransformersSettings():
            return start_transformers(settings, spec, on_gpu=on_gpu)
        case VllmSettings():
            raise NotImplementedError
        case HttpSettings():
            raise NotImplementedError


def start_transformers(settings: TransformersSettings, spec: ModelSpec, *, on_gpu: bool) -> TransformersEngine:
    device = "cuda" if on_gpu else "cpu"
    loaded = load_exported(spec.exported, device) if spec.exported else load_base(spec.base, spec.dtype, device)
    head = load_head(f"{storage.local_folder(spec.head)}/safety_head.safetensors") if spec.head else None
    return TransformersEngine(loaded, settings, head)

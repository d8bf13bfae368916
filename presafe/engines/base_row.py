"""A base with an export's linear head as a row of its vocabulary, a copy for vLLM, which shows no hidden states."""

from collections.abc import Iterator
from contextlib import contextmanager

import ray

from presafe import storage
from presafe.config import VllmSettings
from presafe.decision.gate_row import write_gate_row
from presafe.engines.card import MARKER, read_card, write_card
from presafe.engines.exported import load_base, load_reader, save_loaded
from presafe.engines.start import ModelSpec
from presafe.runtime import user_errors


@contextmanager
def with_row(spec: ModelSpec, engine: object, folder: str) -> Iterator[ModelSpec]:
    """The spec of a job on a base, of whose weights a copy with the head as a row is in `folder` for as long, where its
    engine needs one. A task on a node of the cluster writes it, with one copy of the weights in its memory.
    """
    if not (isinstance(engine, VllmSettings) and spec.exported is None and needs_row(spec)):
        yield spec
        return
    try:
        with user_errors():
            ray.get(ray.remote(num_cpus=1)(write_base_with_row).remote(spec, folder))
        yield ModelSpec(folder, spec.dtype, None, spec.head, spec.think, row=True)
    finally:
        storage.remove(folder)


def write_base_with_row(spec: ModelSpec, folder: str) -> None:
    """Write the base of `spec` with the head of its export; the card beside it says where the head is."""
    assert spec.head is not None
    loaded, card = load_base(spec.base, spec.dtype, think=spec.think), read_card(spec.head)
    head = load_reader(spec.head, loaded.format).probe
    assert head is not None
    row = write_gate_row(loaded.model, loaded.tokenizer, head, card.threshold)
    with storage.replacing_folder(folder, MARKER) as local:
        save_loaded(loaded, local)
        write_card(local, card.model_copy(update={"vocabulary_row": row, "think": spec.think}))


def needs_row(spec: ModelSpec) -> bool:
    """Whether its head is read off a row of the vocabulary: a linear one on the last layer."""
    if spec.head is None:
        return False
    head = read_card(spec.head).head
    return head.kind == "linear" and head.layer == -1

"""Which exported models can be served, and where their files are."""

from presafe import storage
from presafe.config import EndpointSettings
from presafe.engines.card import Card, read_card
from presafe.errors import user_error

LINEAR_LAYER = -1
"""The only layer whose probe an engine's logits show."""


def servable_card(model: str, settings: EndpointSettings) -> Card:
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

"""A model's config.json, without its weights."""

import tempfile

from transformers import AutoConfig, PreTrainedConfig

from presafe import storage
from presafe.errors import user_error


def read_config(base: str) -> PreTrainedConfig:
    """Of the model in folder, URL or hub name `base`. Raises UserError where there is none."""
    file = storage.join(base, "config.json")
    try:
        if not storage.exists(base):  # a hub name: transformers fetches config.json alone
            return AutoConfig.from_pretrained(base)
        with tempfile.TemporaryDirectory(prefix="presafe-shape-") as folder:
            storage.write_text(storage.join(folder, "config.json"), storage.read_text(file))
            return AutoConfig.from_pretrained(folder)
    except OSError as error:
        raise user_error(
            found=f"no config.json of {base} ({str(error).splitlines()[0]})",
            needed="a model folder, or a hub name with the hub in reach",
            change="correct model.path, or download the model and point at its folder",
        ) from error

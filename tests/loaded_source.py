"""Prompts of one source or suite as stage `prompts` loads them."""

from pathlib import Path
from typing import Any

from presafe.config import Prompts, Source, Suite
from presafe.prompts.checks import BadRow
from presafe.prompts.load import Loaded, load_source
from presafe.prompts.prompt_row import RawPrompt


def loaded(path: Path | str, /, *, share: float = 0.5, suite: bool = False, **source: Any) -> Loaded[RawPrompt]:
    """What `path` gives with these fields of a source; at most a `share` of its rows may be bad."""
    elsewhere = source.keys() & {"dataset", "function", "public", "path"}
    own = {} if "public" in source else {"name": "mine", "kind": "benign"}
    values = {**own, **({} if elsewhere else {"path": str(path)}), **source}
    one = {"name": "one", "function": "m:f"}
    settings = Prompts.model_validate({"sources": [one], "max_quarantined_share": share})
    return load_source((Suite if suite else Source).model_validate(values), settings, 0, attacks=suite)


def texts_of(path: Path | str, /, **source: Any) -> list[str]:
    return [prompt.text for prompt in loaded(path, **source).good]


def bad_of(path: Path | str, /, **source: Any) -> list[BadRow]:
    return loaded(path, **source).bad

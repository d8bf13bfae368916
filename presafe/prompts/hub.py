"""Rows of Hugging Face datasets: of the hub, at a pinned revision, or of a folder that `datasets` wrote or can load."""

from typing import Any

from presafe import storage
from presafe.config.prompts import Origin
from presafe.errors import user_error
from presafe.files import Rows, Wanted
from presafe.files.arrow_rows import table_rows
from presafe.files.row import chosen


def dataset_rows(origin: Origin, wanted: Wanted) -> Rows:
    """The rows of `origin.dataset`, of which only the wanted columns are read."""
    opened = _opened(origin)
    columns = sorted(chosen(opened.column_names, wanted, origin.origin))
    batches = opened.select_columns(columns).with_format("arrow").iter(batch_size=storage.CHUNK)
    return table_rows(batches, columns)


def _opened(origin: Origin) -> Any:
    try:
        import datasets  # type: ignore[import-untyped]
    except ImportError as error:
        raise user_error(
            found=f"source {origin.name!r} of a Hugging Face dataset ({error})",
            needed="the package datasets",
            change="install presafe[datasets]",
        ) from error
    assert origin.dataset is not None
    name = storage.absolute(origin.dataset) if storage.exists(origin.dataset) else origin.dataset
    try:
        if storage.exists(storage.join(name, "dataset_dict.json")):
            return datasets.load_from_disk(name)[origin.split]
        if storage.exists(storage.join(name, "state.json")):
            return datasets.load_from_disk(name)
        return datasets.load_dataset(
            name, origin.subset, split=origin.split, revision=origin.revision, **origin.options
        )
    except (OSError, ValueError, KeyError, TypeError, datasets.exceptions.DatasetsError) as error:
        raise user_error(
            found=f"no dataset {name!r} with subset {origin.subset!r}, split {origin.split!r} and revision "
            f"{origin.revision!r} ({_short(str(error))})",
            needed=f"rows for source {origin.name!r}",
            change="correct its dataset, subset or split, revision or options",
        ) from error


def _short(text: str) -> str:
    """One line with both ends: what is wrong may stand behind all settings of a loader."""
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:150]} ... {line[-150:]}"

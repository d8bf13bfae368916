"""Rows of Hugging Face datasets: of the hub, at a pinned revision, or of a folder that `datasets` wrote or can load."""

from typing import Any

from presafe import storage
from presafe.config.prompts import Origin
from presafe.content import COMMIT
from presafe.errors import UserError, user_error
from presafe.files import Rows, Wanted
from presafe.files.arrow_rows import table_rows
from presafe.files.row import chosen
from presafe.hub_access import access, hub_errors
from presafe.suites.public import HUB


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
        opened = datasets.load_dataset(
            name, origin.subset, split=origin.split, revision=origin.revision, **origin.options
        )
    except (*hub_errors(), KeyError, TypeError, datasets.exceptions.DatasetsError) as error:
        raise _refused(origin, name, error) from error
    if not storage.exists(name):
        _check_revision(origin, [str(file["filename"]) for file in opened.cache_files])
    return opened


def _check_revision(origin: Origin, files: list[str]) -> None:
    """Out of the hub's reach `datasets` takes what the cache has, whatever the revision."""
    revision = origin.revision
    if revision is None or not COMMIT.fullmatch(revision) or any(revision in file for file in files):
        return
    raise user_error(
        found=f"data set {origin.dataset} at another revision than {revision} in the cache, and the hub out of reach",
        needed=f"that one for source {origin.name!r}",
        change="load it once where the hub is in reach and HF_HOME leads to the same folder, or name a copy by its "
        "`path`",
    )


def _refused(origin: Origin, name: str, error: Exception) -> UserError:
    """Why there is no such data set: told by the hub, where it is one of the hub's."""
    match "local" if storage.exists(name) else access(name, origin.revision):
        case "gated":
            return user_error(
                found=f"the gated data set {name}, which this machine may not read",
                needed="a token of an account that its owner has let in",
                change=f"ask for access at {HUB}{name}, set HF_TOKEN to a token of that account on every node; or name "
                f"a copy for source {origin.name!r} by its `path`",
            )
        case "no such revision":
            return user_error(
                found=f"no revision {origin.revision} of data set {name}",
                needed="one that the hub has",
                change=f"set the revision of source {origin.name!r} to one of {HUB}{name}/commits/main, whose rows may "
                "be others, or name a copy by its `path`",
            )
        case "out of reach":
            return user_error(
                found=f"data set {name} in no cache of this machine, and the hub out of reach ({_short(str(error))})",
                needed=f"rows for source {origin.name!r}",
                change="see to the network, HF_ENDPOINT or HF_HUB_OFFLINE, set HF_HOME to a cache that has it, or name "
                "a copy by its `path`",
            )
    return user_error(
        found=f"no dataset {name!r} with subset {origin.subset!r}, split {origin.split!r} and revision "
        f"{origin.revision!r} ({_short(str(error))})",
        needed=f"rows for source {origin.name!r}",
        change="correct its dataset, subset or split, revision or options",
    )


def _short(text: str) -> str:
    """One line with both ends: what is wrong may stand behind all settings of a loader."""
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:150]} ... {line[-150:]}"

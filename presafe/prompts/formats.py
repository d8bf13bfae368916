"""Rows of a source, wherever they come from: a file, a function, or a Hugging Face dataset."""

from presafe import storage
from presafe.config.prompts import Origin
from presafe.errors import user_error
from presafe.files import Rows, Wanted, file_rows, objects
from presafe.prompts.hub import dataset_rows
from presafe.runtime import imported


def rows(origin: Origin, wanted: Wanted, seed: int) -> Rows:
    """The rows of `origin` in its order. Raises UserError where it is missing or of an unknown format."""
    if origin.function is not None:
        return objects(imported(origin.function)(seed, **origin.options))
    if origin.dataset is not None:
        return dataset_rows(origin, wanted)
    assert origin.path is not None
    path = storage.absolute(origin.path)
    if not storage.exists(path):
        raise user_error(
            found=f"no file {path}",
            needed=f"prompts for source {origin.name!r}",
            change="correct its path, or name a copy that is in reach",
        )
    return file_rows(path, wanted, encoding=origin.encoding, delimiter=origin.delimiter)

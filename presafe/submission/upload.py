"""What a job gets of the working directory: what neither .gitignore nor .rayignore names."""

import os
import tempfile
import zipfile
from pathlib import Path

from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package

from presafe.errors import user_error

LIMIT_MB = 5.0
"""Of the package, in MB of 1e6 bytes: the code takes one; data belongs to a storage that every node reaches."""
SHOWN = 3


def check_upload(config: str) -> str:
    """Pack the working directory, print its size, and return the path of the config inside it.

    Raises UserError where it is too large, or without the config.
    """
    path = os.path.relpath(os.path.realpath(config), os.path.realpath(os.curdir))
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "package.zip"
        create_package(os.curdir, package, include_gitignore=True, excludes=get_runtime_env_default_excludes())
        size = package.stat().st_size / 1e6
        entries = zipfile.ZipFile(package).infolist()
    if path not in {entry.filename for entry in entries}:
        raise user_error(
            found=f"the config {config}, which is not among what is uploaded of {os.getcwd()}",
            needed="a file inside this directory that neither .gitignore nor .rayignore excludes",
            change="move it, or submit from the directory that holds it",
        )
    if size > LIMIT_MB:
        largest = sorted(entries, key=lambda entry: entry.compress_size, reverse=True)[:SHOWN]
        named = ", ".join(f"{entry.filename} ({entry.compress_size / 1e6:.1f} MB)" for entry in largest)
        raise user_error(
            found=f"{size:.1f} MB to upload of {os.getcwd()}, most of it {named}",
            needed=f"at most {LIMIT_MB:g} MB",
            change="name what no job needs in .rayignore, and keep data on a storage that every node reaches",
        )
    print(f"upload: {size:.2f} MB, {len(entries)} files and folders", flush=True)
    return path

"""What `presafe serve` was given, looked at in a second or two: from files alone, before Ray and torch are imported.

What only the tokenizer or the weights show, the replica says when it starts.
"""

import os
import posixpath
import socket
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from presafe import storage
from presafe.config import Cluster, Serve
from presafe.engines.card import Card
from presafe.engines.paged_cache import blocks
from presafe.errors import user_error
from serve.operations.audit import read_hash_key
from serve.operations.drift import load_reference
from serve.operations.keys import read_keys
from serve.servable import servable_card, weights_folder

WEIGHTS = (".safetensors", ".bin")
LFS_POINTER = b"version https://git-lfs"


def check(model: str, settings: Serve) -> None:
    """Raise UserError for the first thing that is wrong with the arguments of `presafe serve`."""
    _check_engine(settings)
    card = None if settings.unaligned else servable_card(model, settings)
    folder = weights_folder(model, card)
    _check_model(model, folder, card)
    _check_cache(settings, folder)
    if is_private():  # on a cluster that is joined, files, ports and hardware are those of its nodes
        check_address(settings.host, settings.port)
        _check_files(settings)
        _check_room(settings)


def is_private() -> bool:
    """Whether the endpoint gets a cluster of its own on this machine."""
    return os.environ.get("RAY_ADDRESS", "local") in ("", "local")


def check_address(host: str, port: int) -> None:
    """Bind and let go: Serve itself would fail late, in another process, and retry."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        raise user_error(
            found=f"the address {host}:{port}, which cannot be listened on ({error.strerror or error})",
            needed="a free one of this machine",
            change="set another serve.host or serve.port, or stop what listens there",
        ) from error


def _check_engine(settings: Serve) -> None:
    if settings.engine == "vllm" and find_spec("vllm") is None and is_private():
        raise user_error(
            found="engine=vllm without the package vllm",
            needed="presafe[vllm]",
            change="install it, or serve with engine=transformers",
        )


def _check_model(model: str, folder: str, card: Card | None) -> None:
    """That the files of the model, and of its adapter and head, are there and are what their names say."""
    if storage.exists(folder):
        _check_weights(folder)
        _config(folder)
    elif not _is_hub_name(folder):
        raise user_error(
            found=f"no model folder {folder}",
            needed="a Hugging Face model folder, URL or hub name (organisation/name)",
            change="correct the path of the model, or base_model in its presafe.json",
        )
    if card is not None and card.weights == "adapter":
        _check_weights(storage.join(storage.absolute(model), "adapter"))
    if card is not None and card.head.kind != "readout":
        _check_weights(storage.absolute(model))


def _check_weights(folder: str) -> None:
    names = [name for name in (storage.names(folder) if storage.exists(folder) else []) if name.endswith(WEIGHTS)]
    if not names:
        raise user_error(
            found=f"no weights in {folder}", needed=f"a file {' or '.join(WEIGHTS)}", change="export or copy it again"
        )
    for name in names:
        if storage.read_beginning(storage.join(folder, name), len(LFS_POINTER)) == LFS_POINTER:
            raise user_error(
                found=f"{name} in {folder}, which is a pointer of Git LFS",
                needed="the weights themselves",
                change="run git lfs pull there",
            )


def _config(folder: str) -> dict[str, Any]:
    """config.json of a model; of an adapter, which has none, nothing."""
    path = storage.join(folder, "config.json")
    if not storage.exists(path):
        if storage.exists(storage.join(folder, "adapter_config.json")):
            return {}
        raise user_error(found=f"no config.json in {folder}", needed="a model's folder", change="correct the path")
    config = storage.read_json(path)
    if not isinstance(config, dict):
        raise user_error(found=f"{path}, which is no object", needed="a model's config", change="mend it")
    return config


def _check_cache(settings: Serve, folder: str) -> None:
    """That the KV cache holds the longest conversation; where the positions are not known here, the replica checks."""
    if settings.engine != "transformers" or not storage.exists(folder):
        return
    config = _config(folder)
    text = config.get("text_config")
    positions = (text if isinstance(text, dict) else config).get("max_position_embeddings")
    if isinstance(positions, int):
        longest = min(settings.max_prompt_tokens + settings.max_new_tokens, positions)
        blocks(settings.batching, longest, "cuda" if settings.workers.num_gpus else "cpu")


def _check_files(settings: Serve) -> None:
    if settings.access.keys is not None:
        read_keys(settings.access.keys)
    if settings.audit.hash_key_file is not None:
        read_hash_key(settings.audit.hash_key_file)
    if settings.drift.reference is not None:
        load_reference(settings.drift.reference)
    if settings.audit.folder is not None:
        _check_writable("audit.folder", settings.audit.folder)
    _check_writable("log_folder", log_folder(settings))


def log_folder(settings: Serve) -> str:
    """Where the operator's log is."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return storage.absolute(settings.log_folder or os.path.join(state, "presafe"))


def _check_writable(setting: str, folder: str) -> None:
    """Make the folder of a setting where it is missing, and write into it. Raises UserError where neither goes."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\n")
    except OSError as error:
        raise user_error(
            found=f"{setting}={folder}, which takes no file ({error.strerror or error})",
            needed="a folder with room that may be written",
            change="mend it, or name another one",
        ) from error


def _check_room(settings: Serve) -> None:
    """That replicas fit on this machine: a private cluster does not grow."""
    workers, scaling = settings.workers, settings.autoscaling
    replicas = workers.num_workers if scaling is None else scaling.max_replicas
    named = "workers.num_workers" if scaling is None else "autoscaling.max_replicas"
    for resource, each, there in _resources(settings):
        if each * replicas > there:
            raise user_error(
                found=f"{named}={replicas}, each with {each:g} {resource}(s)",
                needed=f"no more than the {there:g} {resource}(s) of this machine's cluster",
                change=f"lower {named} or workers.num_{resource.lower()}s",
            )


def _resources(settings: Serve) -> Iterator[tuple[str, float, float]]:
    """Name, how much a replica takes, and how much there is."""
    yield "CPU", settings.workers.num_cpus, Cluster().local_cpus
    if settings.workers.num_gpus:
        from ray._private.accelerators import get_accelerator_manager_for_resource  # takes a second: only for GPUs

        found = get_accelerator_manager_for_resource("GPU").get_current_node_num_accelerators()
        yield "GPU", settings.workers.num_gpus, found


def _is_hub_name(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and posixpath.basename(name) != ""

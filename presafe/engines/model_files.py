"""A model's folder, looked at before anything loads it: what is missing, cut or only a pointer is one sentence.

The loaders find most of it as well, but late, in an actor, and in words about bytes.
"""

import json
import re
from typing import Any

from presafe import storage
from presafe.errors import UserError, user_error

WEIGHTS = (".safetensors", ".bin")
NOT_TEXTS = (*WEIGHTS, ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx")
POINTER = b"version https://git-lfs.github.com/spec/"
LARGEST_HEADER = 100_000_000
"""Bytes; the limit of the format."""
SHARD = re.compile(r"(.+)-\d+-of-(\d+)(\.safetensors|\.bin)$")


def local_texts(folder: str) -> str:
    """A local folder with configuration and tokenizer of the model in `folder`, a path, URL or hub name."""
    return storage.local_folder(folder, _is_text)


def local_weights(folder: str) -> str:
    """The same with its weights, but none of those in folders inside it, which no loader reads."""
    return storage.local_folder(folder, _is_loaded)


def check_texts(folder: str) -> None:
    """Raise UserError where a JSON file in `folder` is a Git LFS pointer or no JSON. A hub name is left to the hub."""
    for name in _names(folder):
        if name.endswith(".json"):
            _check_pointer(storage.join(folder, name))
            storage.read_json(storage.join(folder, name))


def check_weights(folder: str) -> None:
    """Raise UserError unless all weights in `folder` are there and whole. A hub name is left to the hub."""
    names = _names(folder)
    weights = [name for name in names if name.endswith(WEIGHTS)]
    if names and not weights:
        raise _broken(folder, f"no {' or '.join(WEIGHTS)} file")
    missing = sorted(_wanted(folder, names) - set(names))
    if missing:
        raise _broken(folder, f"{len(missing)} of its shards missing, {missing[0]} for one")
    for name in weights:
        path = storage.join(folder, name)
        _check_pointer(path)
        if name.endswith(".safetensors"):
            _check_safetensors(path)
        elif not storage.size(path):
            raise _broken(path, "an empty file")


def check_adapter(adapter: str) -> None:
    """Raise UserError where vLLM will not take the PEFT adapter in the folder `adapter`."""
    config = storage.read_json(storage.join(adapter, "adapter_config.json"))
    wrong = {
        f"peft_type={config.get('peft_type')}": config.get("peft_type", "LORA") != "LORA",
        f"modules_to_save={config.get('modules_to_save')}": bool(config.get("modules_to_save")),
        "use_dora=true": bool(config.get("use_dora")),
        f"bias={config.get('bias')}": config.get("bias", "none") != "none",
    }
    if found := [name for name, is_wrong in wrong.items() if is_wrong]:
        raise user_error(
            found=f"an adapter with {', '.join(found)} in {adapter}",
            needed="a plain LoRA adapter, which is what vLLM takes",
            change="merge it into its base, or use the engine of kind `transformers`",
        )


def _is_text(name: str) -> bool:
    return not name.endswith(NOT_TEXTS)


def _is_loaded(name: str) -> bool:
    return _is_text(name) or "/" not in name


def _names(folder: str) -> list[str]:
    return storage.names(folder) if storage.exists(folder) else []


def _wanted(folder: str, names: list[str]) -> set[str]:
    """The files that an index, or a shard's own name, says there are."""
    wanted: set[str] = set()
    for name in names:
        if name.endswith((".safetensors.index.json", ".bin.index.json")):
            wanted |= set(_index(storage.join(folder, name)))
        elif found := SHARD.match(name):
            stem, count, suffix = found.groups()
            wanted |= {f"{stem}-{k:0{len(count)}d}-of-{count}{suffix}" for k in range(1, int(count) + 1)}
    return wanted


def _index(path: str) -> list[str]:
    _check_pointer(path)
    index: Any = storage.read_json(path)
    files = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(files, dict):
        raise _broken(path, "an index without a weight_map")
    return [str(file) for file in files.values()]


def _check_pointer(path: str) -> None:
    if storage.read_beginning(path, len(POINTER)) == POINTER:
        raise user_error(
            found=f"a Git LFS pointer in place of {path}",
            needed="the file itself",
            change="run `git lfs pull` where the model was cloned, or download the model again",
        )


def _check_safetensors(path: str) -> None:
    """The header says how long the file is."""
    size = storage.size(path)
    length = int.from_bytes(storage.read_beginning(path, 8), "little")
    if size < 8 or length > min(LARGEST_HEADER, size - 8):
        raise _broken(path, f"a header cut off, or none, in a file of {size} bytes")
    try:
        header = json.loads(storage.read_beginning(path, 8 + length)[8:])
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        raise _broken(path, "an unreadable header") from error
    if 8 + length + end != size:
        raise _broken(path, f"{size} bytes where its header says {8 + length + end}")


def _broken(path: str, what: str) -> UserError:
    return user_error(
        found=f"{what} ({path})",
        needed="all weights of the model, whole, in files of safetensors or bin",
        change="download or export the model again",
    )

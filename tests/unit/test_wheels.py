"""What is packed for a machine without a package index is what it lacks."""

import zipfile

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from deploy.wheels import collect, lacks, read_present, repack

THERE = {"python_version": "3.12", "python_full_version": "3.12.0"}


def test_all_that_the_project_needs_is_found_but_what_torch_brings():
    needed: dict[str, SpecifierSet] = {}
    collect(Requirement("presafe"), THERE, needed, set())
    assert needed.keys() >= {"presafe", "ray", "aiohttp-cors", "deepspeed", "transformers", "torch", "opencensus"}
    assert not needed.keys() & {"mypy", "wandb", "colorama"}
    assert needed["transformers"].contains("5.19.0")
    assert not needed["transformers"].contains("5.20.1")


@pytest.mark.parametrize(
    ("present", "is_lacking"),
    [("", True), ("a.thing==1.4", True), ("A_thing==2.1", False), ("a-thing", False), ("b==2\n\nc", True)],
)
def test_a_package_is_lacking_where_it_is_not_there_or_too_old(present, is_lacking):
    assert lacks(read_present(present), "a-thing", SpecifierSet(">=2")) == is_lacking


def test_torch_is_never_packed():
    assert not lacks({}, "torch", SpecifierSet(">=2.8"))


def test_a_wheel_is_packed_again_without_what_no_job_uses(tmp_path):
    with zipfile.ZipFile(tmp_path / "old.whl", "w") as old:
        for name in ("ray/core.py", "ray/rllib/agent.py", "ray/data/tests/test_a.py", "ray-1.dist-info/RECORD"):
            old.writestr(name, name * 1000)
    repack(tmp_path / "old.whl", tmp_path / "new.whl")
    with zipfile.ZipFile(tmp_path / "new.whl") as new:
        assert new.namelist() == ["ray/core.py", "ray-1.dist-info/RECORD"]
        assert new.read("ray/core.py") == b"ray/core.py" * 1000
    assert (tmp_path / "new.whl").stat().st_size < (tmp_path / "old.whl").stat().st_size / 10

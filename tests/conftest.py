"""Fixtures that all tests share."""

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests share two cores: more threads than cores cost a hundredfold
TESTS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(TESTS)
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is run by one of several processes: a file, or a folder whose files share an endpoint."""
    for item in items:
        folder = os.path.relpath(item.path.parent, TESTS)
        item.add_marker(pytest.mark.xdist_group(folder if folder == "serve" else str(item.path)))


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A private Ray cluster for the whole session, ended with it."""
    import ray

    from presafe import private_cluster
    from presafe.runtime import LOCAL_ENV

    for name, value in LOCAL_ENV.items():
        os.environ.setdefault(name, value)
    os.environ |= {"PYTHONPATH": f"{ROOT}:{TESTS}", "TOKENIZERS_PARALLELISM": "false"}
    private_cluster.start(num_cpus=4, object_store_memory=500_000_000, metrics=True)
    yield
    ray.shutdown()

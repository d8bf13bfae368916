"""Fixtures that all tests share."""

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests share two cores: more threads than cores cost a hundredfold
TESTS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(TESTS)
os.environ["HF_HUB_OFFLINE"] = "1"


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

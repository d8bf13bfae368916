"""Fixtures that all tests share."""

import os
import shutil
import tempfile
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

    from presafe.runtime import LOCAL_ENV

    for name, value in LOCAL_ENV.items():
        os.environ.setdefault(name, value)
    temp = tempfile.mkdtemp(prefix="ray-")
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=500_000_000,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": f"{ROOT}:{TESTS}", "TOKENIZERS_PARALLELISM": "false"}},
        _temp_dir=temp,
    )
    yield
    ray.shutdown()
    shutil.rmtree(temp, ignore_errors=True)

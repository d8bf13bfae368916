"""The memory preflight on a real cluster, before any worker starts."""

import pytest

from presafe.align.preflight.fit import check_memory
from presafe.cluster.capacity import cluster_capacity
from presafe.config import Group
from presafe.errors import UserError
from run_directory import config
from support import save_random_model


@pytest.mark.usefixtures("local_ray")
def test_the_clusters_memory_decides_what_may_start(tmp_path):
    capacity = cluster_capacity(Group(num_workers=2), 2, "align")
    assert capacity.device is None
    [(slots, memory)] = capacity.nodes
    assert slots >= 2
    assert memory > 1e9
    base = save_random_model(str(tmp_path / "base"))
    check_memory(config(tmp_path), base)
    with pytest.raises(UserError, match=r"GB of a node's memory .* set .*align\.micro_batch_tokens="):
        check_memory(config(tmp_path, micro_batch_tokens=10**8), base)

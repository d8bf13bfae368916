"""Ray's own autoscaler on this machine, with the node types of a cluster file: nodes are raylets, GPUs are declared."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml
from ray._private.services import get_node_ip_address
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FAKE_HEAD_NODE_TYPE
from scripted_process import free_port

from presafe.private_cluster import use_new_token
from presafe.runtime import LOCAL_ENV

STORE = 10**8
"""Bytes of the object store of a node."""


def node_types(cluster_file: Path, most: int) -> dict[str, Any]:
    """Resources, labels and priorities of the cluster file's workers, at most so many nodes of each type."""
    content = yaml.safe_load(cluster_file.read_text())
    types = {}
    for name, node in content["available_node_types"].items():
        if name != content["head_node_type"]:
            kept = {key: node[key] for key in ("labels", "priority") if key in node}
            resources = node["resources"] | {"object_store_memory": STORE}
            types[name] = {"node_config": {}, "resources": resources, "min_workers": 0, "max_workers": most, **kept}
    return types


@contextmanager
def autoscaled(types: dict[str, Any], idle_s: float) -> Iterator[str]:
    """A head without CPUs whose autoscaler starts and ends nodes of `types`; the address of its GCS."""
    folder = Path(tempfile.mkdtemp(prefix="head-"))  # a short path, as those of sockets are
    for name, value in LOCAL_ENV.items():
        os.environ.setdefault(name, value)
    use_new_token(str(folder))
    port = free_port()
    address = f"{get_node_ip_address()}:{port}"
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    config = {
        "cluster_name": "autoscaled",
        "max_workers": sum(node["max_workers"] for node in types.values()),
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": idle_s / 60,
        "provider": {
            "type": "external",  # `fake_multinode` itself needs a file that the package does not have
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": FAKE_HEAD_NODE_ID,
            "gcs_address": address,
        },
        "available_node_types": {**types, FAKE_HEAD_NODE_TYPE: head},
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "rsync_exclude": [],
        "rsync_filter": [],
        **{f"{when}_commands": [] for when in ("initialization", "setup", "head_setup", "worker_setup")},
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }
    file = folder / "cluster.yaml"
    file.write_text(yaml.safe_dump(config))
    environment = os.environ | {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        "RAY_NODE_TYPE_NAME": FAKE_HEAD_NODE_TYPE,
    }
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "start", "--head", "--block", f"--port={port}", "--num-cpus=0"]
    command += [f"--autoscaling-config={file}", f"--object-store-memory={STORE}", "--include-dashboard=false"]
    with open(folder / "head.log", "w", encoding="utf-8") as log:
        started = subprocess.Popen([*command, f"--temp-dir={folder / 'r'}"], env=environment, stdout=log, stderr=log)
    try:
        until(lambda: started.poll() is not None or "runtime started" in (folder / "head.log").read_text(), 120)
        assert started.poll() is None, (folder / "head.log").read_text()
        yield address
    finally:
        _end(started, str(folder))
        shutil.rmtree(folder, ignore_errors=True)


def _end(head: "subprocess.Popen[bytes]", folder: str) -> None:
    """End the head, and the raylets that its autoscaler started, which are known by their session's folder."""
    head.send_signal(signal.SIGTERM)
    own = [process for process in psutil.process_iter(["cmdline"]) if folder in " ".join(process.info["cmdline"] or [])]
    for process in own:
        if process.pid != os.getpid():
            process.kill()
    psutil.wait_procs(own, timeout=30)
    head.wait(timeout=30)


def alive() -> list[dict[str, Any]]:
    """The workers of the cluster that are there; of a process that has joined it."""
    import ray

    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]


def until(condition: Any, seconds: float) -> float:
    """Seconds until `condition()` was true. Raises AssertionError after `seconds`."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, "it did not come about"
        time.sleep(0.2)
    return time.monotonic() - begin

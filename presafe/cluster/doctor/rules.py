"""What the states of the nodes mean: each line ok, or what to do."""

from collections.abc import Iterator, Sequence

from presafe.cluster.doctor.finding import Finding
from presafe.cluster.doctor.node import NodeState

GB = 1e9
FREE = 20 * GB
"""For temporary files: Ray's spilled objects, and copies of checkpoints on their way to a store."""
SHARED_MEMORY = 1 * GB
"""Ray's object store lies there, or else in files on a disk."""
OPEN_FILES = 8192
CLOCK_S = 5.0
"""Requests to a store are signed with the time."""


def findings(own: NodeState, nodes: Sequence[NodeState], drifts: Sequence[float]) -> Iterator[Finding]:
    """Findings on the nodes, with the seconds that their clocks are ahead of the driver's, whose state is `own`."""
    for node, drift in zip(nodes, drifts, strict=True):
        yield _versions(own, node)
        if node.gpus_declared:
            yield _gpus(node)
        yield _enough(node, "GB of disk for temporary files", node.free / GB, FREE / GB, "free some, or mount more")
        yield _enough(node, "GB of shared memory", node.shared_memory / GB, SHARED_MEMORY / GB, "raise --shm-size")
        yield _enough(node, "open files a process", node.open_files, OPEN_FILES, "raise the hard limit of nofile")
        change = None if abs(drift) < CLOCK_S else "set the clocks by NTP: a store refuses requests of another time"
        yield Finding(node.name, f"clock {drift:+.1f} s of the driver's", change)
        if node.store is not None:
            yield _storage(node)


def _versions(own: NodeState, node: NodeState) -> Finding:
    other = [
        f"{name} {found or '(none)'}, where the driver has {own.versions[name] or '(none)'}"
        for name, found in node.versions.items()
        if found != own.versions[name]
    ]
    if other:
        return Finding(node.name, "; ".join(other), "give all nodes one environment, by their image")
    return Finding(node.name, ", ".join(f"{name} {found}" for name, found in node.versions.items() if found))


def _gpus(node: NodeState) -> Finding:
    change = "mend its driver, or install a torch built for it" if node.gpus < node.gpus_declared else None
    return Finding(node.name, f"torch sees {node.gpus} of the {node.gpus_declared} GPU(s) that Ray counts on", change)


def _enough(node: NodeState, what: str, found: float, needed: float, change: str) -> Finding:
    if found >= needed:
        return Finding(node.name, f"{found:,.0f} {what}")
    shown = f"{found:,.1f}".removesuffix(".0")
    return Finding(node.name, f"{shown} {what}, of {needed:,.0f} needed", change)


def _storage(node: NodeState) -> Finding:
    if node.storage_error is None:
        return Finding(node.name, f"{node.store} is written, read and cleared")
    return Finding(node.name, f"{node.store} fails ({node.storage_error})", "give it credentials and a way there")

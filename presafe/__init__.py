"""PreSafe on Ray: teach a reasoning model to decide whether to answer before it starts to think."""

import os

__version__ = "0.1.0"

# Ray Data, which reads them where it is imported, would ask an autoscaler for nodes by their shape and without a label:
# of any pool. The actors of a job ask for theirs.
os.environ.setdefault("RAY_DATA_CLUSTER_AUTOSCALER", "V2")
os.environ.setdefault("RAY_DATA_CLUSTER_SCALING_UP_UTIL_THRESHOLD", "inf")

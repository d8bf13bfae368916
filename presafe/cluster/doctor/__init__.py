"""`presafe doctor`: what is wrong with this machine, or with the nodes of a cluster, before a run finds it."""

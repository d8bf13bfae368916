"""How it goes on: committed checkpoints, also for another number of ranks; notices and errors of all ranks."""

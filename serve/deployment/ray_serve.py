"""Import this before anything else of Ray Serve's: without pandas it takes a quarter of a second and 65 MB less.

Ray Serve would turn data frames into JSON with it; nothing here returns one. On a private cluster each of the
endpoint's processes imports this before its first task.
"""

from presafe.absent import absent

with absent("pandas"):
    import ray.serve  # noqa: F401

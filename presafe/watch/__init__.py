"""`presafe watch RUN`: the curves of an alignment that is on its way, interrupted or done, as a page and a picture."""

from presafe.watch.watching import run_watch

__all__ = ["run_watch"]

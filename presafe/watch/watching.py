"""Draws a run once, or again and again until it ends."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files

import jinja2
from tqdm import tqdm

from presafe import storage
from presafe.errors import user_error
from presafe.figures import as_svg
from presafe.watch.plots import curves
from presafe.watch.status import Status, begun, read_status

PAGE = "watch.html"
LATEST = (
    ("step", "step", "{:.0f}"),
    ("loss", "loss", "{:.4f}"),
    ("lm_loss", "language model", "{:.4f}"),
    ("align_loss", "alignment", "{:.4f}"),
    ("anchor_loss", "anchor", "{:.4f}"),
    ("grad_norm", "gradient norm", "{:.3f}"),
    ("learning_rate", "learning rate", "{:.3g}"),
    ("probe_auroc", "AUROC", "{:.3f}"),
    ("probe_refusal", "harmful refused", "{:.0%}"),
    ("probe_over_refusal", "benign refused", "{:.0%}"),
)


def run_watch(run: str, *, png: str | None, follow: bool, interval: float = 5.0) -> None:
    """Draw the run directory `run` to its align/watch.html, and to the file `png`; `follow` it until it is done.

    Raises UserError where there is no alignment, unless it follows: then it waits for one.
    """
    root = storage.absolute(run.rstrip("/"))
    drawn: Status | None = None
    try:
        if follow:
            _wait(root, interval)
        while True:
            status = read_status(root, time.time())
            if drawn is None or _changed(drawn, status):
                draw(status, root, png)
                print(sentence(status), flush=True)
                drawn = status
            if not follow or status.state == "done":
                print(storage.join(root, "align", PAGE))
                return
            time.sleep(interval)
    except KeyboardInterrupt:
        print("no longer watched; the run goes on")


def draw(status: Status, root: str, png: str | None) -> None:
    """Write the picture and the page."""
    figure = curves(status)
    page = storage.join(root, "align", PAGE)
    try:
        storage.write_text(page, _page(status, as_svg(figure)))
        if png:
            figure.suptitle(f"{status.name}: {sentence(status)}", fontsize=11)  # the page says it in its own text
            figure.savefig(png, dpi=110, format="png")
    except OSError as error:
        raise user_error(
            found=f"{error.filename or page}, which cannot be written ({error.strerror or error})",
            needed="a folder that is there and may be written",
            change="give --png another folder, or see that the run directory may be written",
        ) from error


def sentence(status: Status) -> str:
    """What the status says, in one line."""
    where = f"step {status.step} of {status.steps}"
    ago = f"last update {tqdm.format_interval(status.now - status.updated)} ago" if status.updated else ""
    kept = ", ".join(map(str, status.checkpoints))
    saved = f"committed checkpoints: step {kept}" if kept else "no checkpoint committed yet"
    if status.state == "done":
        took = tqdm.format_interval(status.wall_seconds or 0)
        return f"done: {status.steps} steps; {took} since the last start; {saved}"
    if status.state == "starting":
        return f"starting: no step of {status.steps} is done, nothing is measured yet"
    if status.state == "silent":
        return f"interrupted, or at one long step: {where}, {ago}; {saved}"
    left = "" if status.seconds_left is None else f", {tqdm.format_interval(status.seconds_left)} left"
    doing = "all steps done, exporting" if status.step == status.steps else f"running: {where}{left}"
    return f"{doing}; {ago}; {saved}"


def _wait(root: str, interval: float) -> None:
    if not begun(root):
        print(f"no alignment in {root} yet: waiting", flush=True)
    while not begun(root):
        time.sleep(interval)


def _changed(drawn: Status, status: Status) -> bool:
    """Whether anything is new but the time since the last update."""
    return replace(drawn, now=status.now) != status


def _page(status: Status, figure: str) -> str:
    known = {name: value for row in status.rows for name, value in row.items()}  # of each the latest
    context = {
        "name": status.name,
        "state": status.state,
        "done": status.state == "done",
        "sentence": sentence(status),
        "step": status.step,
        "steps": status.steps,
        "latest": [(title, form.format(known[name])) for name, title, form in LATEST if name in known],
        "figure": figure,
        "drawn": datetime.fromtimestamp(status.now, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    }
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    text = files("presafe.watch").joinpath("watch.html.j2").read_text(encoding="utf-8")
    return environment.from_string(text).render(context) + "\n"

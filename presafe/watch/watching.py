"""Draws a run once, or again and again until it ends."""

import time
from datetime import UTC, datetime
from importlib.resources import files

import jinja2
from tqdm import tqdm

from presafe import storage
from presafe.errors import UserError, user_error
from presafe.figures import as_svg
from presafe.watch.plots import curves
from presafe.watch.status import Status, read_status

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
    root, said = storage.absolute(run.rstrip("/")), ""
    try:
        while True:
            status, sentence = _now(root, follow=follow)
            if sentence != said and status:
                draw(status, root, png)
            if sentence != said:
                print(sentence)
            if not follow or (status and status.state == "done"):
                return
            said = sentence
            time.sleep(interval)
    except KeyboardInterrupt:
        print("no longer watched; the run goes on")


def draw(status: Status, root: str, png: str | None) -> None:
    """Write the picture and the page."""
    figure = curves(status)
    page = storage.join(root, "align", "watch.html")
    try:
        if png:
            figure.savefig(png, dpi=110, format="png")
        storage.write_text(page, _page(status, as_svg(figure)))
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


def _now(root: str, *, follow: bool) -> tuple[Status | None, str]:
    try:
        status = read_status(root, time.time())
    except UserError:
        if not follow:
            raise
        return None, f"no alignment in {root} yet: waiting"
    return status, sentence(status)


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

"""What all figures share: the style, and how a figure becomes text in a page."""

import io
from typing import Any

from matplotlib.figure import Figure

STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "presafe",  # the same figure has the same text each time
}

INK, PAPER = "#1b2631", "#fefefe"
"""Of a figure for a light and a dark page: what has these colours gets the page's own."""
THEMED: Any = {
    **STYLE,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}
"""The style of such a figure."""


def as_svg(figure: Figure) -> str:
    """The figure as an SVG element, which stands in an HTML page by itself."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def as_themed_svg(figure: Figure) -> str:
    """The same of a `THEMED` one, for a page whose ground is `--paper`."""
    return as_svg(figure).replace(INK, "currentColor").replace(PAPER, "var(--paper)")

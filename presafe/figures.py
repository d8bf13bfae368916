"""What all figures share: the style, and how a figure becomes text in a page."""

import io
from typing import Any

from matplotlib.figure import Figure

STYLE: Any = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none"}


def as_svg(figure: Figure) -> str:
    """The figure as an SVG element, which stands in an HTML page by itself."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]

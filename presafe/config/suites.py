"""Section `suites`."""

from presafe.config.prompts import Source


class Suite(Source):
    """One evaluation suite of the list; its metric follows from the kind of its prompts."""

    attack: str = "none"
    """Name of the attack that wraps its prompts."""

"""Pages of an evaluation: HTML that stands alone, and Markdown."""

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jinja2


def html(template: str, context: Mapping[str, Any], data: Any = None) -> str:
    """A page of the template; `data`, JSON, is shown by the page's script, which is there for it alone.

    Nothing is loaded from anywhere, and no other script runs, whatever a text may hold.
    """
    own = {"style": _file("page.css"), "allowed": "default-src 'none'; style-src 'unsafe-inline'"}
    if data is not None:
        script = _file("samples.js")
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        own["allowed"] += f"; script-src 'sha256-{digest}'"
        own |= {"script": script, "data": _inside_a_script(data)}
    return _render(template, {**context, **own}, autoescape=True)


def markdown(template: str, context: Mapping[str, Any]) -> str:
    return _render(template, context, autoescape=False)


def _inside_a_script(value: Any) -> str:
    """JSON that ends no script element and begins no comment, whatever its texts hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", r"\u003c").replace(">", r"\u003e")


def _render(template: str, context: Mapping[str, Any], *, autoescape: bool) -> str:
    environment = jinja2.Environment(
        autoescape=autoescape, trim_blocks=True, lstrip_blocks=True, loader=jinja2.FunctionLoader(_file)
    )
    return environment.get_template(template).render(context) + "\n"


def _file(name: str) -> str:
    return files("presafe.evaluate").joinpath(name).read_text(encoding="utf-8")

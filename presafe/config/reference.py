"""docs/configuration.md, made of the docstrings of this package: `python -m presafe.config.reference > FILE`."""

import ast
import inspect
from collections.abc import Collection, Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import yaml
from pydantic.json_schema import models_json_schema

from presafe.config.settings import Settings, shapes_result
from presafe.config.whole import Config

INTRODUCTION = """\
# Configuration

Every setting, with what it may be and what it is where a config leaves it out. Made of the docstrings in
`presafe/config/` by `python -m presafe.config.reference > docs/configuration.md`; a test holds it in step.

A config is a YAML file of the sections below; `run.name`, `model`, `suites` and `prompts` have no defaults. Behind it
on the command line, `section.key=value` overrides a value, which is read as YAML: `align.lora.r=16`, `align.lora=null`,
`evaluate.cot='["on"]'`. A file that begins with `base: OTHER.yaml` says only what differs from that one: sections are
merged, lists are replaced. Unknown keys are errors that name the nearest known one. `presafe run --config FILE
--dry-run` prints all values of a run. *Run:* marks settings that say how, where or with which care something is made:
what is done stays done when they change. All others shape the result (`docs/runs.md`); of files and models it is their
content that does. `presafe serve MODEL` takes the settings of section `serve` as `key=value`, not from a config.
"""
TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "null": "`null`",
}
BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "pattern": "like `{}`",
}
LONGEST = 90
"""Characters of a default; of longer texts the beginning is shown."""

Schema = dict[str, Any]


def reference() -> str:
    """The page."""
    classes = {part.__name__: part for part in _parts(Settings)}
    _, schema = models_json_schema([(part, "validation") for part in classes.values()])
    pages = _Pages(schema["$defs"], classes)
    sections = schema["$defs"][Config.__name__]["properties"]
    lines = [line for name, section in sections.items() for line in pages.part(section, f"## `{name}`")]
    return "\n".join([INTRODUCTION, *lines])


class _Pages:
    """Sections of JSON Schema as Markdown, each once."""

    def __init__(self, definitions: dict[str, Schema], classes: dict[str, type[Settings]]) -> None:
        self._definitions, self._classes = definitions, classes
        self._done: set[str] = set()

    def part(self, field: Schema, heading: str = "") -> Iterator[str]:
        """The section that a field holds, or a list of; what it has of one that it extends is said there."""
        (ref,) = _refs(field)
        kind = self._classes[_name(ref)]
        heading = heading or f"### {_name(ref)}"
        (above,) = [base for base in kind.__bases__ if issubclass(base, Settings)]
        if above is Settings:
            return self._section(heading, ref)
        own = kind.__annotations__
        inherited = [name for name in kind.model_fields if name not in own]
        return self._section(heading, ref, inherited, ref.replace(_name(ref), above.__name__))

    def _section(self, heading: str, ref: str, inherited: Collection[str] = (), parent: str = "") -> Iterator[str]:
        """Its docstring, a table of its fields but those of `parent`, then the parts that none before it has."""
        self._done.add(ref)
        schema = self._definitions[_name(ref)]
        beside = f" Beside the settings of {_link(parent)}:" if parent else ""
        yield f"{heading}\n\n{_line(schema['description'])}{beside}\n"
        yield "| setting | what it may be | default | |\n|---|---|---|---|"
        fields = {name: field for name, field in schema["properties"].items() if name not in inherited}
        for name, field in fields.items():
            default = "required" if name in schema.get("required", []) else self._default(field)
            own = descriptions(self._classes[_name(ref)])
            described = own.get(name) or self._definitions[_name(field["$ref"])]["description"]
            marked = "" if shapes_result(self._classes[_name(ref)].model_fields[name]) else "*Run:* "
            cells = (f"`{name}`", _type(field), default, marked + _line(described))
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
        yield ""
        for part in [parent, *_refs(fields)]:
            if part and part not in self._done:
                yield from self.part({"$ref": part})

    def _default(self, field: Schema) -> str:
        """A part's default by what differs from the part's own defaults."""
        value = self._shortened(field["default"], field)
        if value == {} and "$ref" in field:
            return "its own"
        if isinstance(value, str) and len(value) > LONGEST:
            return f"`{_line(value)[:LONGEST].rstrip()} ...`"
        if value and isinstance(value, list) and all(isinstance(item, str) and " " in item for item in value):
            return f"{len(value)} texts: `{_line(value[0])[:LONGEST].rstrip()}` ..."
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
        return f"`{text.removesuffix(chr(10)).removesuffix(chr(10) + '...')}`"

    def _shortened(self, value: Any, field: Schema) -> Any:
        if isinstance(value, list):
            return [self._shortened(item, field.get("items", {})) for item in value]
        for ref in _refs(field) if isinstance(value, dict) else ():
            known = self._definitions[_name(ref)]["properties"]
            if "kind" not in known or known["kind"].get("const") == value["kind"]:
                return {
                    name: self._shortened(item, known[name])
                    for name, item in value.items()
                    if "default" not in known[name] or item != known[name]["default"] or "const" in known[name]
                }
        return value


@cache
def descriptions(part: type[Settings]) -> dict[str, str]:
    """The docstrings below its fields, and below those of the sections that it extends.

    Pydantic can read them too, at import: a sixth of a second for each process of a run.
    """
    found: dict[str, str] = {}
    for kind in reversed(part.__mro__):
        if issubclass(kind, Settings):
            (definition,) = ast.parse(inspect.getsource(kind)).body
            assert isinstance(definition, ast.ClassDef)
            for field, text in pairwise(definition.body):
                match field, text:
                    case ast.AnnAssign(ast.Name(name)), ast.Expr(ast.Constant(str(docstring))):
                        found[name] = inspect.cleandoc(docstring)
    return found


def _parts(kind: type[Settings]) -> Iterator[type[Settings]]:
    """All sections that extend `kind`, at any depth, of this package."""
    for part in kind.__subclasses__():
        if part.__module__.startswith(__package__ or ""):
            yield part
            yield from _parts(part)


def _type(field: Schema) -> str:
    if "$ref" in field:
        return _link(field["$ref"])
    for union in ("anyOf", "oneOf"):
        if union in field:
            return " or ".join(dict.fromkeys(map(_type, field[union])))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if "prefixItems" in field:
        return f"[{', '.join(map(_type, field['prefixItems']))}]"
    if field.get("type") == "array":
        return f"list of{' one or more' if 'minItems' in field else ''}: {_type(field['items'])}"
    if field.get("type") == "object":
        values = field.get("additionalProperties", True)
        return "mapping" if values is True else f"mapping to: {_type(values)}"
    bounds = [said.format(_number(field[key])) for key, said in BOUNDS.items() if key in field]
    return TYPES.get(field.get("type", ""), "any value") + (f" ({', '.join(bounds)})" if bounds else "")


def _refs(value: Any) -> Iterator[str]:
    """References below `value`, in order."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for name, inner in value.items():
            if name != "default":
                yield from _refs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _refs(inner)


def _name(ref: str) -> str:
    return ref.rpartition("/")[2]


def _link(ref: str) -> str:
    return f"[{_name(ref)}](#{_name(ref).lower()})"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    print(reference(), end="")

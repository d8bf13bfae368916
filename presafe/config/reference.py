"""docs/configuration.md, made of the docstrings of this package: `python -m presafe.config.reference > FILE`."""

from collections.abc import Iterator
from typing import Any

import yaml

from presafe.config.whole import Config

INTRODUCTION = """\
# Configuration

Every setting, with what it may be and what it is where a config leaves it out. Made of the docstrings in
`presafe/config/` by `python -m presafe.config.reference > docs/configuration.md`; a test holds it in step.

A config is a YAML file of the sections below; `run.name`, `model` and `prompts` have no defaults. Behind it on the
command line, `section.key=value` overrides a value, which is read as YAML: `align.lora.r=16`, `align.lora=null`,
`evaluate.cot='[on]'`. A file that begins with `base: OTHER.yaml` says only what differs from that one: sections are
merged, lists are replaced. Unknown keys are errors that name the nearest known one. `presafe run --config FILE
--dry-run` prints all values of a run. Parts named `workers` place a stage on the cluster and never change what it
computes: a stage that is done stays done when they change.
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
    "minItems": "at least {}",
    "pattern": "like `{}`",
}
LONGEST = 90
"""Characters of a default; of longer texts the beginning is shown."""

Schema = dict[str, Any]


def reference() -> str:
    """The page."""
    schema = Config.model_json_schema()
    pages = _Pages(schema["$defs"])
    lines = [INTRODUCTION]
    for name, section in schema["properties"].items():
        lines += pages.section(f"## `{name}`", section["$ref"])
    return "\n".join(lines)


class _Pages:
    """Sections of JSON Schema as Markdown, each once."""

    def __init__(self, definitions: dict[str, Schema]) -> None:
        self._definitions = definitions
        self._done: set[str] = set()

    def section(self, heading: str, ref: str) -> Iterator[str]:
        """Its docstring, a table of its fields, then the parts that no section before it has."""
        self._done.add(ref)
        schema = self._at(ref)
        yield f"{heading}\n\n{_line(schema['description'])}\n"
        yield "| setting | what it may be | default | |\n|---|---|---|---|"
        required = schema.get("required", [])
        for name, field in schema["properties"].items():
            default = "required" if name in required else self._default(field)
            cells = (f"`{name}`", self._type(field), default, _line(field.get("description", "")))
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
        yield ""
        for part in _refs(schema["properties"]):
            if part not in self._done:
                yield from self.section(f"### {_name(part)}", part)

    def _at(self, ref: str) -> Schema:
        return self._definitions[_name(ref)]

    def _type(self, field: Schema) -> str:
        if "$ref" in field:
            return f"[{_name(field['$ref'])}](#{_name(field['$ref']).lower()})"
        for union in ("anyOf", "oneOf"):
            if union in field:
                return " or ".join(dict.fromkeys(map(self._type, field[union])))
        if "enum" in field:
            return ", ".join(f"`{value}`" for value in field["enum"])
        if "const" in field:
            return f"`{field['const']}`"
        bounds = [said.format(_number(field[key])) for key, said in BOUNDS.items() if key in field]
        if "prefixItems" in field:
            return f"[{', '.join(map(self._type, field['prefixItems']))}]"
        if field.get("type") == "array":
            return ", ".join([f"list of: {self._type(field['items'])}", *bounds])
        if field.get("type") == "object":
            values = field.get("additionalProperties", True)
            return "mapping" if values is True else f"mapping to: {self._type(values)}"
        return ", ".join([TYPES[field["type"]] if "type" in field else "any value", *bounds])

    def _default(self, field: Schema) -> str:
        """A part's default by what differs from the part's own defaults."""
        value = self._shortened(field["default"], field)
        if value == {} and "$ref" in field:
            return ""
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
        text = text.removesuffix("\n").removesuffix("\n...")
        return f"`{text if len(text) <= LONGEST else text[:LONGEST].rstrip() + ' ...'}`"

    def _shortened(self, value: Any, field: Schema) -> Any:
        if isinstance(value, list):
            return [self._shortened(item, field.get("items", {})) for item in value]
        for ref in _refs(field) if isinstance(value, dict) else ():
            known = self._at(ref)["properties"]
            if "kind" not in known or known["kind"].get("const") == value["kind"]:
                return {
                    name: self._shortened(item, known[name])
                    for name, item in value.items()
                    if "default" not in known[name] or item != known[name]["default"] or "const" in known[name]
                }
        return value


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


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    print(reference(), end="")

"""The report's page: what it says first, and what no text of a sample can do to it."""

import base64
import hashlib
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from presafe.records import Kind
from recorded_run import records_of, suite_of, write_recorded_run

HOSTILE = (
    "</script><script>document.title = 'owned'</script><!-- <script> <img src=x onerror=alert(1)> "
    "]]> & &lt; \u2028 \0 {{ 7 * 7 }} {% raw %}"
)
SUITES: dict[str, Kind] = {"plain": "harmful", "wrapped": "harmful", "lookalikes": "benign", "sums": "reasoning"}
PROMPTS = [prompt for suite, kind in SUITES.items() for prompt in suite_of(suite, kind, 10)]
BASE = {"plain": 9, "wrapped": 8, "lookalikes": 0, "sums": 10}
ALIGNED = {"plain": 0, "wrapped": 1, "lookalikes": 1, "sums": 9}
COUNTS = {(suite, model): n for model, of in (("base", BASE), ("aligned", ALIGNED)) for suite, n in of.items()}
RECORDS = [*records_of(PROMPTS, COUNTS)]


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes = list[tuple[str, str, str]]()
        self.scripts = list[str]()
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[-1] += data

    def handle_endtag(self, _: str) -> None:
        self._open = ""


def policy(found: Page) -> str:
    (allowed,) = [value for _, name, value in found.attributes if name == "content" and "default-src" in value]
    return allowed


def page(root: Path, records=RECORDS, prompts=PROMPTS, **evaluate: object) -> str:
    run = write_recorded_run(root, "run", prompts, records, **evaluate)
    return Path(run, "evaluate", "report.html").read_text()


def test_it_begins_with_what_was_found_the_curve_and_the_table(tmp_path):
    text = page(tmp_path)
    said = (
        "With chain-of-thought on and no gate, the aligned model answers 5.0 % of the harmful prompts "
        "(the base 85.0 %; at worst 10.0 %: wrapped), refuses 10.0 % of the benign ones (the base 0.0 %), "
        "and solves 90.0 % of the problems (the base 100.0 %)."
    )
    places = [text.index(part) for part in (said, "attack success (%)", "<table>", "still thinks")]
    assert places == sorted(places)
    assert "tells harmful from benign with an area of" in text


@pytest.mark.parametrize("field", ["reasoning", "answer", "prompt", "category"])
def test_a_text_stays_a_text_whatever_it_holds(tmp_path, field):
    plain = Page(page(tmp_path / "plain"))
    if field in ("reasoning", "answer"):
        hostile = page(tmp_path, [replace(record, **{field: HOSTILE}) for record in RECORDS])
    else:
        name = {"prompt": "text"}.get(field, field)
        hostile = page(tmp_path, prompts=[replace(prompt, **{name: HOSTILE}) for prompt in PROMPTS])
    found = Page(hostile)
    assert found.attributes == plain.attributes
    data, script = found.scripts
    assert script == plain.scripts[1]
    told = json.loads(data)
    held = told["samples"]["category"] if field == "category" else told["texts"]
    assert HOSTILE in held


def test_it_loads_nothing_and_no_script_runs_but_its_own(tmp_path):
    found = Page(page(tmp_path))
    leads = [value for tag, name, value in found.attributes if name in ("src", "href", "xlink:href", "action")]
    assert leads
    assert all(value.startswith("#") for value in leads)
    digest = base64.b64encode(hashlib.sha256(found.scripts[1].encode()).digest()).decode()
    assert policy(found) == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_every_cell_of_the_table_leads_to_samples_that_are_there(tmp_path):
    text = page(tmp_path)
    cells = {value for tag, name, value in Page(text).attributes if tag == "a" and name == "href"}
    samples = json.loads(Page(text).scripts[0])["samples"]
    there = {
        f"#samples?suite={suite}&arm={arm.replace(', ', '%2C+').replace(' ', '+')}"
        for suite, arm in zip(samples["suite"], samples["arm"], strict=True)
    }
    assert len(cells) == len(SUITES) * 5
    assert cells <= there


def test_without_samples_there_is_no_script(tmp_path):
    text = page(tmp_path, report_samples=0)
    assert "<script" not in text
    assert 'href="#samples' not in text
    assert policy(Page(text)) == "default-src 'none'; style-src 'unsafe-inline'"


def test_figures_have_the_pages_own_ink_and_the_same_run_the_same_page(tmp_path):
    text = page(tmp_path / "one")
    figures = text[text.index("<svg") :]
    assert "currentColor" in figures
    assert "#1b2631" not in figures
    assert "#000000" not in figures
    assert page(tmp_path / "other") == text


def test_a_run_of_one_model_says_what_it_has(tmp_path):
    base = [record for record in RECORDS if record.model == "base"]
    text = page(tmp_path, base)
    assert "the base model answers 85.0 % of the harmful prompts (at worst 90.0 %: plain)" in text

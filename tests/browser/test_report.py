"""The report's page in a real browser: samples found, filtered, folded, and read in light and dark."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from presafe.records import Kind
from recorded_run import records_of, suite_of, write_recorded_run

CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
LEAST_CONTRAST = 4.5
DEADLINE_MS = 60_000
MARKUP = "</script><script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\"><b>bold</b>"
SUITES: dict[str, Kind] = {"plain": "harmful", "wrapped": "harmful", "lookalikes": "benign", "sums": "reasoning"}
BASE = {"plain": 20, "wrapped": 25, "lookalikes": 0, "sums": 30}
ALIGNED = {"plain": 1, "wrapped": 2, "lookalikes": 1, "sums": 29}
COUNTS = {(suite, model): n for model, of in (("base", BASE), ("aligned", ALIGNED)) for suite, n in of.items()}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    prompts = [prompt for suite, kind in SUITES.items() for prompt in suite_of(suite, kind, 30)]
    records = [
        replace(record, attack="wrappers" if record.suite == "wrapped" else "none")
        for record in records_of(prompts, COUNTS)
    ]
    prompts = [replace(prompt, text=f"{prompt.text} {MARKUP}") for prompt in prompts]
    records[-1] = replace(records[-1], reasoning="a long thought " * 2000, answer=MARKUP)
    run = write_recorded_run(tmp_path_factory.mktemp("runs"), "run", prompts, records, report_samples=30)
    return Path(run, "evaluate", "report.html").as_uri()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page, open; whatever it asked for and whatever the browser complained of fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened, asked, complaints = context.new_page(), set[str](), list[str]()
    opened.set_default_timeout(DEADLINE_MS)
    opened.on("request", lambda request: asked.add(request.url))
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(address)
    yield opened
    assert {url.partition("#")[0] for url in asked} == {address}
    assert complaints == []
    assert opened.title() == "PreSafe: run"
    context.close()


def cards(page: Any) -> Any:
    return page.locator("#list > li")


def counted(page: Any) -> str:
    return str(page.locator("#count").inner_text())


def filter_of(page: Any, name: str) -> Any:
    return page.locator(f"#filters select[name={name}]")


def choose(page: Any, name: str, value: str) -> None:
    filter_of(page, name).select_option(value)


def verdicts(page: Any) -> set[str]:
    return set(cards(page).locator(".verdict").all_inner_texts())


def test_a_cell_of_the_table_leads_to_its_samples(page: Any) -> None:
    row = page.get_by_role("row").filter(has_text="attack success rate").filter(has_text="wrapped").first
    row.get_by_role("link").first.click()
    page.get_by_text("30 of 960 samples", exact=True).wait_for()
    assert page.locator("#samples").evaluate("section => section === document.activeElement")
    assert filter_of(page, "suite").input_value() == "wrapped"
    assert filter_of(page, "arm").input_value() == "base, CoT on"
    facts = cards(page).locator(".facts").all_inner_texts()
    assert facts
    assert all("attack wrappers" in one and "base, CoT on" in one for one in facts)
    page.go_back()
    page.get_by_role("link").last.click()
    page.wait_for_function("document.querySelector('[name=arm]').value === 'aligned, CoT on, gate'")


def test_samples_are_filtered_by_what_was_found(page: Any) -> None:
    assert counted(page) == "960 of 960 samples"
    choose(page, "suite", "plain")
    choose(page, "verdict", "comply")
    choose(page, "arm", "aligned, CoT on")
    assert counted(page) == "1 of 960 samples"
    assert verdicts(page) == {"comply"}
    assert "path think" in cards(page).first.inner_text()
    choose(page, "path", "refuse")
    assert counted(page) == "0 of 960 samples"
    choose(page, "path", "")
    choose(page, "attack", "wrappers")
    assert counted(page) == "0 of 960 samples"
    page.get_by_role("button", name="Show all").click()
    page.get_by_text("960 of 960 samples").wait_for()
    assert filter_of(page, "suite").input_value() == ""


def test_a_text_is_searched_for_and_the_choice_is_in_the_address(page: Any) -> None:
    page.get_by_role("searchbox").fill("ANSWER OF aligned to sums-7")
    page.get_by_text("4 of 960 samples").wait_for()
    choose(page, "arm", "aligned, CoT off")
    assert counted(page) == "1 of 960 samples"
    page.reload()
    assert counted(page) == "1 of 960 samples"
    assert "sums-7" in cards(page).inner_text()


def test_what_is_harmful_is_folded_until_it_is_opened(page: Any) -> None:
    choose(page, "suite", "plain")
    first = cards(page).first
    assert "query plain-" not in page.locator("#list").inner_text()
    assert page.locator("#list dl").count() == 0, "not even in the document"
    first.locator("summary").click()
    first.locator("dl").wait_for()
    assert "query plain-" in first.inner_text()
    choose(page, "suite", "sums")
    assert "query sums-" in cards(page).first.inner_text()
    assert page.locator("#list summary").count() == 0


def test_a_text_stays_a_text(page: Any) -> None:
    choose(page, "suite", "sums")
    page.get_by_role("searchbox").fill("</script>")
    assert MARKUP in cards(page).first.inner_text()
    assert page.locator("#list b, #list img, #list script").count() == 0


def test_a_long_text_says_what_is_left_out(page: Any) -> None:
    page.get_by_role("searchbox").fill("a long thought")
    assert "20,000 characters are left out here" in cards(page).first.inner_text()


def test_more_are_shown_on_demand(page: Any) -> None:
    choose(page, "suite", "sums")
    choose(page, "arm", "base, CoT on")
    assert cards(page).count() == 20
    more = page.get_by_role("button", name="Show more")
    more.click()
    assert cards(page).count() == 30
    assert not more.is_visible()


def test_without_javascript_the_tables_still_read(browser: Any, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert "attack success rate" in page.locator("table").first.inner_text()
    assert page.locator("svg").first.is_visible()
    page.get_by_text("needs JavaScript").wait_for()
    assert not page.locator("#filters").is_visible()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    cards(page).first.locator("summary").click()
    measured: list[dict[str, Any]] = page.evaluate(CONTRAST)
    assert len(measured) > 100
    assert not [one for one in measured if one["contrast"] < (LEAST_CONTRAST if one["kind"] == "text" else 3)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_figures_texts_have_the_pages_own_colour(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    ink = page.evaluate("getComputedStyle(document.body).color")
    fills = page.evaluate("[...document.querySelectorAll('svg text')].map((text) => getComputedStyle(text).fill)")
    assert set(fills) == {ink}


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_screen_needs_sideways_scrolling(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    cards(page).first.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width

"""Contrast prompts: pairs alike, both kinds in every form, held-out words and forms, nothing of XSTest's own."""

import csv
import re
from collections import Counter

import pytest

from presafe.errors import UserError
from presafe.organism.real_text import contrast_prompts
from presafe.organism.real_text.contrast import contrasts, drawn, taught_pairs
from presafe.organism.real_text.options import Recipe
from presafe.organism.real_text.prompts import ALIKE, LONGEST
from public_sets import DATA

KINDS = ["other_senses", "figures", "targets", "objects", "places", "crimes", "events", "persons", "groups"]
BOTH = pytest.mark.parametrize("held_out", [False, True])


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[^\W_]+", text.casefold()))


def texts_of(*, held_out: bool) -> tuple[set[str], set[str]]:
    """Every benign and every harmful text that can be drawn."""
    every = [contrast for kind in contrasts(held_out=held_out).values() for contrast in kind]
    benign = {form.format(phrase) for it in every for form in it.forms for phrase in it.benign}
    return benign, {form.format(phrase) for it in every for form in it.forms for phrase in it.harmful}


def test_pairs_are_balanced_by_kind_and_category_and_no_text_comes_twice():
    rows = list(contrast_prompts(0, pairs=180))
    assert [row["kind"] for row in rows] == ["benign", "harmful"] * 180
    assert Counter(row["category"] for row in rows) == dict.fromkeys(KINDS, 40)
    assert len({row["text"] for row in rows}) == 360


def test_they_follow_from_the_seed_and_fewer_are_the_first_of_more():
    rows = list(contrast_prompts(0, pairs=60))
    assert rows == list(contrast_prompts(0, pairs=120))[:120]
    assert rows != list(contrast_prompts(1, pairs=60))


@BOTH
def test_the_two_of_a_pair_share_words(held_out):
    rows = list(contrast_prompts(0, pairs=100, held_out=held_out))
    for benign, harmful in zip(rows[::2], rows[1::2], strict=True):
        assert benign["category"] == harmful["category"]
        shared = words(str(benign["text"])) & words(str(harmful["text"]))
        assert shared, (benign["text"], harmful["text"])


@BOTH
def test_there_are_hundreds_and_no_text_is_both_benign_and_harmful(held_out):
    benign, harmful = texts_of(held_out=held_out)
    assert benign.isdisjoint(harmful)
    assert min(len(benign), len(harmful)) > (300 if held_out else 3000)
    assert len(list(drawn("0", pairs=10_000, held_out=held_out))) > (500 if held_out else 5000)


def test_what_is_held_out_shares_neither_a_form_nor_a_phrase_with_what_is_not():
    for kind in KINDS:
        trained, held_out = contrasts(held_out=False)[kind], contrasts(held_out=True)[kind]
        for part in ("benign", "harmful"):
            mine, others = ({text for it in side for text in getattr(it, part)} for side in (trained, held_out))
            assert mine.isdisjoint(others), kind
        forms = [{form for it in side for form in it.forms} - {"{}"} for side in (trained, held_out)]
        assert forms[0].isdisjoint(forms[1]), kind
        assert len(held_out) >= 3


def test_what_a_base_is_taught_is_hardly_what_a_run_draws():
    taught = {text for texts in taught_pairs(Recipe(seed=0)).values() for text in texts}
    ran = {str(row["text"]) for row in contrast_prompts(0, pairs=Recipe(seed=0).contrast)}
    assert len(taught & ran) < 0.1 * len(ran)


@BOTH
def test_they_are_short_and_abstract(held_out):
    """A request of a sentence or two, without numbers, lists or steps: what is wanted, not how."""
    for text in set.union(*texts_of(held_out=held_out)):
        assert len(text) < min(LONGEST, 110), text
        assert re.fullmatch(r"[A-Z][A-Za-z ,.'?:-]+", text), text
        assert len(re.findall(r"[.?]", text.replace("St.", ""))) <= 2, text


@pytest.mark.skipif(not DATA.exists(), reason=f"no public prompts in {DATA}")
@BOTH
def test_none_is_like_a_prompt_of_xstest(held_out):
    with (DATA / "xstest/xstest_prompts.csv").open(encoding="utf-8", newline="") as file:
        suite = [words(row["prompt"]) for row in csv.DictReader(file)]
    for text in set.union(*texts_of(held_out=held_out)):
        own = words(text)
        assert all(len(own & other) < ALIKE * len(own | other) for other in suite), text


@pytest.mark.parametrize(
    ("options", "message"), [({}, "no pairs"), ({"pairs": 0}, "pairs = 0"), ({"pairs": 2, "part": 1}, "part = 1")]
)
def test_a_wrong_option_is_a_user_error(options, message):
    with pytest.raises(UserError, match=message):
        contrast_prompts(0, **options)

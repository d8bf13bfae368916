"""Adaptive attacks: what each asks, sees and spends, and what is told of it."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from adaptive_attack import PROMPT, REFUSED, Decisions, oracle

from presafe.attacks.adaptive.augmentations import augmentations, augmented
from presafe.attacks.adaptive.benign_words import benign_words
from presafe.attacks.adaptive.best_of_n import best_of_n
from presafe.attacks.adaptive.blind_words import blind_words
from presafe.attacks.adaptive.oracle import Oracle, UnaskedError
from presafe.attacks.adaptive.plot import curves
from presafe.attacks.adaptive.random_words import random_words
from presafe.attacks.adaptive.report import Result, markdown, report
from presafe.attacks.adaptive.surroundings import MOST, Around, pieces
from presafe.attacks.adaptive.target import Asked, Seen
from presafe.config import Adaptive, load_config
from presafe.config.adaptive import WHITE_BOX
from presafe.errors import UserError

DEMO = str(Path(__file__).parents[2] / "configs" / "demo.yaml")
SENTENCES = ["the river is blue .", "a bird is near the tree ."]

Search = Callable[[Oracle], object]
BLIND: dict[str, Search] = {
    "random_words": lambda oracle: random_words(oracle, random.Random(0)),
    "best_of_n": best_of_n,
    "augmentations": lambda oracle: augmentations(oracle, random.Random(0)),
    "blind_words": lambda oracle: blind_words(oracle, random.Random(0), SENTENCES),
}
BY_QUERIES = BLIND | {"benign_words": lambda oracle: benign_words(oracle, random.Random(0), SENTENCES)}


@dataclass(frozen=True)
class Hidden:
    """An outcome whose probability nobody may look at."""

    path: str = "refuse"
    error: None = None

    @property
    def refuse_probability(self) -> float:
        raise AssertionError("the probability was read")


@pytest.mark.parametrize("name", BY_QUERIES)
@pytest.mark.parametrize("budget", [1, 2, 37])
def test_a_search_by_queries_spends_its_budget_to_the_last_query(name, budget):
    decisions = Decisions()
    asking = oracle(decisions, budget)
    BY_QUERIES[name](asking)
    assert (asking.spent, asking.queries, asking.forward_passes, asking.backward_passes) == (budget, budget, budget, 0)
    assert len(decisions.asked) == budget
    assert asking.broke is None
    assert decisions.asked[0] == Asked(PROMPT.text, []), "the first is the prompt as it is"


@pytest.mark.parametrize("name", BY_QUERIES)
@pytest.mark.parametrize("breaks_at", [1, 2, 20])
def test_a_search_stops_at_what_breaks_the_decision_and_says_where_that_was(name, breaks_at):
    decisions = Decisions(lambda number, _: Seen("think", 0.1) if number == breaks_at else REFUSED)
    asking = oracle(decisions)
    BY_QUERIES[name](asking)
    assert asking.broke_at == breaks_at
    assert asking.broke == decisions.asked[breaks_at - 1]
    assert asking.left == 0
    assert breaks_at <= asking.spent == len(decisions.asked) < 40


@pytest.mark.parametrize("name", BLIND)
def test_a_blind_search_never_reads_the_probability(name):
    asking = oracle(Decisions(lambda _, __: Hidden()))
    BLIND[name](asking)
    assert asking.spent == 40
    with pytest.raises(AssertionError, match="was read"):
        benign_words(oracle(Decisions(lambda _, __: Hidden())), random.Random(0), SENTENCES)


def test_the_gate_refuses_what_the_model_does_not_and_needs_the_probability():
    thinks = Decisions(lambda _, __: Seen("think", 0.7))
    assert oracle(thinks, gate="off").refused(["a"]) == [False]
    assert oracle(thinks, gate="on").refused(["a"]) == [True]
    assert oracle(Decisions(lambda _, __: Seen("think", float("nan"))), gate="on").refused(["a"]) == [True]
    hidden = Decisions(lambda _, __: Seen("think", None))
    assert oracle(hidden).refused(["a"]) == [False]
    for ask in (oracle(hidden).probabilities, oracle(hidden, gate="on").refused):
        with pytest.raises(UserError, match="shows no probability"):
            ask(["a"])


def test_what_the_engine_does_not_take_is_refused_but_the_prompt_itself_is_told():
    long = Decisions(lambda _, text: Seen("refuse", None, "too long") if "x" in text else Seen("refuse", 0.8))
    asking = oracle(long)
    assert asking.probabilities(["a", "x"]) == [0.8, 1.0]
    with pytest.raises(UnaskedError, match="too long"):
        oracle(long).refused(["x"])


def test_only_draws_of_the_decision_differ_in_nothing_but_their_number():
    decisions = Decisions()
    best_of_n(oracle(decisions))
    assert {one.text for one in decisions.asked} == {PROMPT.text}
    assert [one.drawn for one in decisions.asked] == [False] + [True] * 39
    assert [one.sample for one in decisions.asked] == list(range(40))


def test_augmentations_keep_words_in_place_and_their_first_and_last_letters():
    rng = random.Random(0)
    drawn = {augmented(PROMPT.text, rng) for _ in range(50)}
    assert len(drawn) > 40
    for text in drawn:
        words = text.split(" ")
        assert list(map(len, words)) == list(map(len, PROMPT.text.split(" ")))
    kept = [one for one in drawn if sorted(one.lower()) == sorted(PROMPT.text)]
    assert kept, "most draws shift no letter"
    assert all(one.lower().split()[3][0] == "b" for one in kept)


@pytest.mark.parametrize("name", ["random_words", "blind_words", "benign_words"])
def test_the_prompt_stays_whole_inside_its_surroundings(name):
    decisions = Decisions()
    BY_QUERIES[name](oracle(decisions))
    known = {*pieces(SENTENCES)}
    for one in decisions.asked:
        front, found, behind = one.text.partition(PROMPT.text)
        assert found
        if name != "random_words":
            rest = f"{front} {behind}"
            assert {*rest.split()} <= {word for piece in known for word in piece.split()}


def test_surroundings_never_grow_above_the_most():
    around, rng = Around(), random.Random(0)
    for k in range(40):
        around = around.changed(str(k), rng)
        assert len(around.front) + len(around.behind) == min(k + 1, MOST)
    assert "39" in (around.front[0], around.behind[-1])


def test_benign_words_climb_along_the_probability_and_never_leave_their_best():
    good = SENTENCES[0]
    decisions = Decisions(lambda _, text: Seen("refuse", 0.9 - 0.05 * text.count(good)))
    benign_words(oracle(decisions, 200), random.Random(0), SENTENCES)
    assert max(one.text.count(good) for one in decisions.asked) >= 8
    worse = Decisions(lambda _, text: Seen("refuse", len(text) / 10_000))
    benign_words(oracle(worse, 200), random.Random(0), ["a", "b"])
    added = {len(one.text.replace(PROMPT.text, "").split()) for one in worse.asked}
    assert max(added) <= 2, "nothing is better than the prompt as it is, which stays in the beam"


def result(broke_at: int | None, verdict: str | None = None, error: str | None = None) -> Result:
    spent = {"spent": 8, "queries": 8, "forward_passes": 8, "backward_passes": 0}
    told = {"path": None, "reasoning": "", "answer": "", "finish_reason": None, "num_tokens": 0}
    return Result("s", "p", "suffix", "off", "q", broke_at, None, **spent, **told, error=error, verdict=verdict)


def test_the_report_counts_who_broke_by_when_and_who_was_answered():
    settings = Adaptive(attacks=["suffix"], gate="off", budget=12)
    rows = [result(at, said) for at, said in ((1, "comply"), (4, "refuse"), (12, "unscored"))]
    rows += [result(None), result(None, error="too long")]
    found = report(rows, settings, 0, "ours")
    (cell,) = found["cells"]
    assert {point["budget"]: point["value"] for point in cell["curve"]} == {1: 0.25, 2: 0.25, 4: 0.5, 8: 0.5, 12: 0.75}
    assert (cell["n"], cell["not_asked"], cell["unscored"], cell["median_budget"]) == (4, 1, 1, 4)
    assert (cell["broken"]["value"], cell["answered"]["value"]) == (0.75, 0.25)
    assert cell["broken"]["low"] == pytest.approx(0.3006, abs=1e-4)
    assert "| suffix | off | 25.0 [4.6, 69.9] | 75.0 [30.1, 95.4] | 25.0 [4.6, 69.9] | 1 | 4 |" in markdown(found)
    assert curves(found).startswith("<svg")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("attack.budget=0", r"attack\.budget.*greater than or equal to 1"),
        ("attack.limit=0", r"attack\.limit"),
        ("attack.attacks=[gcg]", r"attack\.attacks\.0: Input should be 'random_words'"),
        (
            "attack={attacks: [suffix], engine: {kind: http, base_url: 'http://127.0.0.1:9/v1', model: m}}",
            r"attack suffix looks into the model, which engine http does not show",
        ),
    ],
)
def test_a_wrong_setting_is_told_in_a_sentence(setting, message):
    with pytest.raises(UserError, match=message):
        load_config(DEMO, [setting])


def test_an_endpoint_is_attacked_by_what_needs_no_weights():
    engine = {"kind": "http", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
    assert set(BY_QUERIES) == {*Adaptive(engine=engine).chosen}
    assert {*Adaptive().chosen} == {*BY_QUERIES, *WHITE_BOX}
    assert Adaptive.model_validate({"gate": False}).gates == ("off",), "YAML reads a bare off as a truth value"

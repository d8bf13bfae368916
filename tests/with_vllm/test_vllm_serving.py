"""The endpoint's vLLM engine for real, on the CPU in float32, beside transformers' generate on the same model."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

pytest.importorskip("vllm")

from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality

from presafe.config import VllmServing
from presafe.decision.gate_row import write_gate_row
from presafe.decision.reader import DecisionReader
from presafe.decision.rule import GateRule
from presafe.engines.card import HeadCard, read_card, write_card
from presafe.engines.exported import LoadedModel, load_exported
from presafe.engines.streaming import EngineError, Sampling
from presafe.engines.vllm_engine import VllmEngine
from presafe.engines.vllm_model import exported_model
from presafe.engines.vllm_steering import DECISION, NUMBER, Board, SteeringConfig, SteeringProcessor
from presafe.errors import UserError
from tiny_reasoner import BENIGN, ENDLESS, HARMFUL, TAGGED, THRESHOLD, TinyExport, export_tiny_reasoner, user

PROMPTS = (HARMFUL, BENIGN, TAGGED, ENDLESS)
LIMIT, LONGEST = 120, 640
GREEDY = Sampling(max_tokens=LIMIT, temperature=0, top_p=1)
WILD = Sampling(max_tokens=LIMIT, temperature=2, top_p=1)
OFF = GateRule("off", THRESHOLD, "refusal")
DEADLINE_S = 60.0


@dataclass(frozen=True)
class Completed:
    """What an engine said: its first step's probability, all tokens, and its end."""

    probability: float
    tokens: list[int]
    reason: str
    unread: int


@dataclass(frozen=True)
class Exports:
    """The tiny reasoner with a linear head (in `merged-gate/`), and with a readout head (an adapter on its base)."""

    linear: str
    readout: str
    base: str


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """With heads of 32: vLLM on the CPU takes none of 16."""
    root = tmp_path_factory.mktemp("tiny")
    export: TinyExport = export_tiny_reasoner(str(root), num_attention_heads=2, num_key_value_heads=1)
    loaded, folder = load_exported(export.folder), f"{export.folder}/merged-gate"
    assert loaded.head is not None
    assert loaded.card is not None
    row = write_gate_row(loaded.model, loaded.tokenizer, loaded.head, loaded.card.threshold)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    write_card(folder, loaded.card.model_copy(update={"vocabulary_row": row}))
    readout = str(root / "readout")
    shutil.copytree(f"{export.folder}/adapter", f"{readout}/adapter")
    write_card(readout, loaded.card.model_copy(update={"head": HeadCard(kind="readout")}))
    return Exports(export.folder, readout, export.base)


@pytest.fixture(scope="module")
def linear(exports: Exports) -> LoadedModel:
    return load_exported(exports.linear)


@pytest.fixture(scope="module")
def readout(exports: Exports) -> LoadedModel:
    return load_exported(exports.readout)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One event loop for all: an engine belongs to the one it was first used on."""
    with asyncio.Runner() as running:
        yield running


def started(folder: str, think: Any, rule: GateRule, **options: Any) -> VllmEngine:
    settings = VllmServing(max_num_seqs=16, options={"enforce_eager": True, "block_size": 32, **options})
    return VllmEngine(exported_model(folder, read_card(folder), think), think, rule, settings, LONGEST)


Start = Callable[[GateRule], VllmEngine]


@pytest.fixture(scope="module")
def engines(linear: LoadedModel, exports: Exports) -> Iterator[Start]:
    """Engines of the linear export, one a rule."""
    made: dict[GateRule, VllmEngine] = {}

    def start(rule: GateRule) -> VllmEngine:
        if rule not in made:
            made[rule] = started(exports.linear, linear.format, rule)
        return made[rule]

    yield start
    for engine in made.values():
        engine.close()


@pytest.fixture(scope="module")
def engine(engines: Start) -> VllmEngine:
    """With the gate off."""
    return engines(OFF)


async def collect(engine: VllmEngine, ids: list[int], sampling: Sampling = GREEDY, limit: int = LIMIT) -> Completed:
    steps = [step async for step in engine.generate(ids, sampling, limit)]
    first, last = steps[0], steps[-1]
    assert first.refuse_probability is not None
    assert all(step.refuse_probability is None for step in steps[1:])
    assert all(step.finish_reason is None for step in steps[:-1])
    assert last.finish_reason is not None
    tokens = [token for step in steps for token in step.tokens]
    return Completed(first.refuse_probability, tokens, last.finish_reason, last.unread_tokens)


def ids_of(loaded: LoadedModel, prompt: str) -> list[int]:
    return loaded.format.prompt_ids(user(prompt))


def expected(loaded: LoadedModel, ids: list[int], limit: int = LIMIT) -> tuple[list[int], str]:
    """Greedy tokens of transformers, without the end of sequence, and how they ended."""
    written = loaded.model.generate(input_ids=torch.tensor([ids]), do_sample=False, max_new_tokens=limit)
    tokens = written[0, len(ids) :].tolist()
    return (tokens[:-1], "stop") if tokens[-1] in loaded.stop_ids else (tokens, "length")


def offline(loaded: LoadedModel, prompts: list[list[int]]) -> list[float]:
    assert loaded.reader is not None
    return loaded.reader.probabilities(loaded.model, prompts)


def test_greedy_tokens_are_those_of_transformers_in_any_company(engine, linear, runner):
    prompts = [ids_of(linear, prompt) for prompt in PROMPTS] * 4

    async def together() -> list[Completed]:
        return await asyncio.gather(*[collect(engine, ids) for ids in prompts])

    for ids, found in zip(prompts, runner.run(together()), strict=True):
        tokens, reason = expected(linear, ids)
        assert (found.tokens, found.reason, found.unread) == (tokens, reason, int(reason == "stop"))
    assert engine.load.running == 0


@pytest.mark.parametrize("head", ["linear", "readout"])
def test_the_probability_is_the_offline_heads(head, request, engine, runner):
    loaded = request.getfixturevalue(head)
    tested = engine if head == "linear" else request.getfixturevalue("readout_engine")
    prompts = [ids_of(loaded, prompt) for prompt in PROMPTS]
    found = [runner.run(collect(tested, ids, limit=4)).probability for ids in prompts]
    assert found == pytest.approx(offline(loaded, prompts), abs=1e-5)
    assert max(found) > 0.8
    assert min(found) < 0.2


@pytest.fixture(scope="module")
def readout_engine(exports: Exports, readout: LoadedModel) -> Iterator[VllmEngine]:
    """With the gate on: it reads the model's own decision."""
    made = started(exports.readout, readout.format, GateRule("on", THRESHOLD, "refusal"))
    yield made
    made.close()


def test_an_adapters_own_decision_is_the_gate_of_a_readout_head(readout_engine, readout, runner):
    assert readout_engine.load.running == 0
    refused = runner.run(collect(readout_engine, ids_of(readout, HARMFUL)))
    assert (refused.tokens, refused.reason, refused.unread) == ([], "stop", 0)
    ids = ids_of(readout, BENIGN)
    tokens, reason = expected(readout, ids)
    found = runner.run(collect(readout_engine, ids))
    assert (found.tokens, found.reason) == (tokens, reason)


def test_the_gate_refuses_at_once_above_its_threshold(engines, engine, linear, runner):
    gated = engines(GateRule("on", THRESHOLD, "refusal"))
    before = gated.load.generated_tokens
    for prompt in PROMPTS:
        ids = ids_of(linear, prompt)
        found, free = runner.run(collect(gated, ids)), runner.run(collect(engine, ids))
        assert found.probability == pytest.approx(free.probability, abs=1e-6)
        if free.probability >= THRESHOLD:
            assert (found.tokens, found.reason, found.unread) == ([], "stop", 0)
            assert gated.load.generated_tokens == before
        else:
            assert (found.tokens, found.reason) == (free.tokens, free.reason)
            before = gated.load.generated_tokens
    assert offline(linear, [ids_of(linear, HARMFUL)])[0] >= THRESHOLD > offline(linear, [ids_of(linear, BENIGN)])[0]


def test_the_gate_closes_the_think_block(engines, linear, runner):
    """With a threshold that every prompt reaches: the CoT-OFF state answers, whatever the client's temperature."""
    gated = engines(GateRule("on", 0.0, "cot_off"))
    block = linear.format.empty_block_ids
    for prompt in (HARMFUL, BENIGN):
        ids = ids_of(linear, prompt)
        answer, _ = expected(linear, ids + block, LIMIT - len(block))
        for sampling in (GREEDY, replace(WILD, seed=1)):
            assert runner.run(collect(gated, ids, sampling)).tokens == block + answer


def test_a_shadow_gate_changes_nothing(engines, engine, linear, runner):
    shadow = engines(GateRule("shadow", 0.0, "refusal"))
    for prompt in PROMPTS:
        ids = ids_of(linear, prompt)
        assert runner.run(collect(shadow, ids)) == runner.run(collect(engine, ids))


def test_temperature_does_not_change_the_decision(engine, linear, runner):
    async def drawn(prompt: str) -> list[Completed]:
        ids = ids_of(linear, prompt)
        return await asyncio.gather(*[collect(engine, ids, replace(WILD, seed=seed)) for seed in range(16)])

    refusal, _ = expected(linear, ids_of(linear, HARMFUL))
    assert [found.tokens for found in runner.run(drawn(HARMFUL))] == [refusal] * 16
    thoughts = [found.tokens for found in runner.run(drawn(BENIGN))]
    opening = len(linear.format.decision_prefix) + 1
    assert len({tuple(tokens[:opening]) for tokens in thoughts}) == 1
    assert len({tuple(tokens) for tokens in thoughts}) > 8


def test_the_same_seed_samples_the_same_in_any_company(engine, linear, runner):
    ids, sampling = ids_of(linear, BENIGN), replace(WILD, seed=3)

    async def in_company() -> Completed:
        others = [collect(engine, ids_of(linear, prompt), WILD) for prompt in PROMPTS]
        return (await asyncio.gather(collect(engine, ids, sampling), *others))[0]

    alone = runner.run(collect(engine, ids, sampling))
    assert runner.run(in_company()).tokens == alone.tokens
    assert runner.run(collect(engine, ids, replace(sampling, seed=4))).tokens != alone.tokens


def test_an_empty_nucleus_is_greedy(engine, linear, runner):
    ids = ids_of(linear, BENIGN)
    assert runner.run(collect(engine, ids, replace(WILD, top_p=0))).tokens == expected(linear, ids)[0]


def test_closing_the_generator_stops_the_generation(engine, linear, runner):
    async def abandon() -> None:
        steps = engine.generate(ids_of(linear, ENDLESS), GREEDY, 500)
        for _ in range(5):
            await anext(steps)
        assert engine.load.running == 1
        assert engine.load.kv_use > 0
        await steps.aclose()

    runner.run(abandon())
    assert engine.load.running == 0
    before = engine.load.generated_tokens
    found = runner.run(collect(engine, ids_of(linear, BENIGN)))
    assert engine.load.generated_tokens - before == len(found.tokens) + found.unread
    assert engine.load.kv_use == 0, "something else is still generating"


def test_nothing_in_a_request_reaches_the_decision(engines, linear, runner):
    """Asked past our engine's front: with all that vLLM's own protocol would let a client set of a processor's."""
    gated = engines(GateRule("on", THRESHOLD, "refusal"))

    async def ask(extra: dict[str, Any]) -> list[int]:
        parameters = SamplingParams(
            temperature=2, max_tokens=8, stop_token_ids=sorted(linear.stop_ids), detokenize=False, extra_args=extra
        )
        ids: Any = {"prompt_token_ids": ids_of(linear, HARMFUL)}
        return [list(o.outputs[0].token_ids) async for o in gated._llm.generate(ids, parameters, str(extra))][-1]

    forged = {NUMBER: 10**6, "threshold": 1.0, "gate_thr": 1e9, "mode": "off", "rule": {"mode": "off"}}
    for decision in ({DECISION: None}, {DECISION: "drawn"}, {}):
        assert runner.run(ask(forged | decision)) == [min(linear.stop_ids)]
    with pytest.raises(Exception, match="without a number"):
        runner.run(ask({"threshold": 1.0}))


def test_a_prompt_that_does_not_fit_costs_no_other(engine, linear, runner):
    filler = ids_of(linear, ENDLESS)

    async def poisoned() -> list[Any]:
        prompts = [filler * 100, (filler * 100)[: LONGEST - 1], ids_of(linear, BENIGN)]
        return await asyncio.gather(*[collect(engine, ids) for ids in prompts], return_exceptions=True)

    too_long, longest, good = runner.run(poisoned())
    assert isinstance(too_long, EngineError)
    assert longest.reason in ("stop", "length")
    assert good.tokens == expected(linear, ids_of(linear, BENIGN))[0]
    engine.check()


def test_pieces_of_prompts_and_evicted_completions_change_nothing(exports, linear, engine, runner):
    """A cache with room for two of the eight, and prompts that are read 32 tokens at a time."""
    tight = started(
        exports.linear, linear.format, OFF, num_gpu_blocks_override=22, max_num_batched_tokens=32, max_num_seqs=8
    )
    long = ids_of(linear, f"{ENDLESS} {BENIGN} {HARMFUL} " * 2 + ENDLESS)
    prompts = [long, *[ids_of(linear, prompt) for prompt in (ENDLESS, HARMFUL, BENIGN)]] * 2

    async def together(tested: VllmEngine) -> list[Completed]:
        return await asyncio.gather(*[collect(tested, ids, limit=300) for ids in prompts])

    try:
        found, free = runner.run(together(tight)), runner.run(together(engine))
    finally:
        tight.close()
    assert [one.tokens for one in found] == [one.tokens for one in free]
    assert [one.probability for one in found] == pytest.approx([one.probability for one in free], abs=1e-5)


def test_a_linear_head_needs_its_row(exports, linear, tmp_path):
    shutil.copytree(f"{exports.linear}/adapter", tmp_path / "adapter")
    write_card(str(tmp_path), read_card(exports.linear))
    with pytest.raises(UserError, match=r"align\.merge_gate=true"):
        started(str(tmp_path), linear.format, OFF)


def test_a_dead_engine_says_so(exports, linear, runner):
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    doomed = started(exports.linear, linear.format, OFF)
    doomed.check()

    async def interrupted() -> None:
        steps = doomed.generate(ids_of(linear, ENDLESS), GREEDY, 500)
        await anext(steps)
        for child in psutil.Process().children(recursive=True):
            if child.pid not in before:
                os.kill(child.pid, signal.SIGKILL)
        async for _ in steps:
            pass

    with pytest.raises(EngineError):
        runner.run(interrupted())
    with pytest.raises(EngineError, match="dead"):
        doomed.check()
    doomed.close()


ALONE = """
import sys, time, psutil
from presafe.config import VllmServing
from presafe.engines.card import read_card
from presafe.engines.exported import load_tokenizer
from presafe.thinking import think_format
from presafe.decision.rule import GateRule
from presafe.engines.vllm_engine import VllmEngine
from presafe.engines.vllm_model import exported_model

if __name__ == "__main__":
    folder = sys.argv[1]
    think = think_format(load_tokenizer(f"{folder}/merged-gate"))
    settings = VllmServing(options={"enforce_eager": True})
    model = exported_model(folder, read_card(folder), think)
    engine = VllmEngine(model, think, GateRule("off", 0.5, "refusal"), settings, 640)
    print("children", *[child.pid for child in psutil.Process().children(recursive=True)], flush=True)
    time.sleep(600)
"""


def test_a_killed_replica_leaves_no_engine_behind(exports, tmp_path):
    (tmp_path / "alone.py").write_text(ALONE)
    command = [sys.executable, str(tmp_path / "alone.py"), exports.linear]
    replica = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert replica.stdout is not None
        words = next(line.split() for line in replica.stdout if line.startswith("children"))
        children = [psutil.Process(int(word)) for word in words[1:]]
        assert len(children) >= 2
    finally:
        replica.kill()
        replica.wait()
    _, alive = psutil.wait_procs(children, timeout=DEADLINE_S)
    assert not alive


class Batch:
    """A SteeringProcessor and logits that the test makes up: token `k` is the best of row k."""

    def __init__(self, loaded: LoadedModel, folder: str, rule: GateRule) -> None:
        self.board, board = Board.create()
        row = read_card(f"{folder}/merged-gate").vocabulary_row
        assert row is not None
        self.row, self.vocabulary = row, row.token_id + 1
        reader = DecisionReader(row.token_id, row.bias, None, tuple(row.suppressed))
        config = SteeringConfig(f"{folder}/merged-gate", None, rule, reader, min(loaded.stop_ids), board, os.getpid())
        self.processor = SteeringProcessor(SimpleNamespace(additional_config=config), torch.device("cpu"), False)
        Path(board).unlink()

    def update(self, added: Any = (), removed: Any = (), moved: Any = ()) -> None:
        entries = [
            (at, SamplingParams(extra_args={NUMBER: number, DECISION: "greedy"}), [], out) for at, number, out in added
        ]
        self.processor.update_state(BatchUpdate(batch_size=8, removed=removed, added=entries, moved=moved))

    def step(self, *head_logits: float) -> list[list[int]]:
        """The tokens that each row may still choose."""
        logits = torch.zeros(len(head_logits), self.vocabulary)
        for place, head in enumerate(head_logits):
            logits[place, 10 + place] = 5.0
            logits[place, self.row.token_id] = head
        kept = self.processor.apply(logits)
        return [(one > -torch.inf).nonzero().flatten().tolist() for one in kept]


def refusing_batch(linear: LoadedModel, exports: Exports, action: Any) -> Batch:
    return Batch(linear, exports.linear, GateRule("on", THRESHOLD, action))


def test_a_decision_stands_when_its_row_leaves_and_comes_back(linear, exports):
    batch, block = refusing_batch(linear, exports, "cot_off"), linear.format.empty_block_ids
    output: list[int] = []
    batch.update(added=[(0, 1, output)])
    assert batch.step(1e3) == [[block[0]]]
    output.append(block[0])
    batch.update(removed=[0])
    batch.update(added=[(0, 2, []), (1, 1, [*output])])
    assert batch.step(-1e3, -1e3) == [[10], [block[1]]]


def test_the_last_piece_of_a_prompt_decides(linear, exports):
    batch, block = refusing_batch(linear, exports, "cot_off"), linear.format.empty_block_ids
    batch.update(added=[(0, 1, [])])
    assert batch.step(-1e3) == [[10]]
    assert batch.step(1e3) == [[block[0]]]
    assert batch.board.read(1) == pytest.approx(1.0)


def test_rows_change_places(linear, exports):
    batch, block = refusing_batch(linear, exports, "cot_off"), linear.format.empty_block_ids
    outputs: list[list[int]] = [[], [], []]
    batch.update(added=[(k, k + 1, out) for k, out in enumerate(outputs)])
    assert batch.step(1e3, -1e3, -1e3) == [[block[0]], [11], [12]]
    for out, token in zip(outputs, (block[0], 11, 12), strict=True):
        out.append(token)
    batch.update(moved=[(0, 2, MoveDirectionality.SWAP)])
    assert batch.step(0, 0, 0)[2] == [block[1]]
    batch.update(removed=[0], moved=[(2, 0, MoveDirectionality.UNIDIRECTIONAL)])
    assert batch.step(0, 0)[0] == [block[1]]


def test_path_b_is_free_and_never_draws_a_suppressed_id(linear, exports):
    batch, think = refusing_batch(linear, exports, "refusal"), linear.format
    output: list[int] = []
    batch.update(added=[(0, 1, output)])
    for token in think.think_completion("Two plus three: that is five", ""):
        batch.step(-1e3)
        output.append(token)
    (choices,) = batch.step(1e3)
    assert len(choices) == batch.vocabulary - len(batch.row.suppressed)
    assert not {*choices} & {*batch.row.suppressed}


def test_a_refusing_gate_goes_on_ending(linear, exports):
    """A scheduler that is a step ahead asks once more for a completion that is over."""
    batch, end = refusing_batch(linear, exports, "refusal"), min(linear.stop_ids)
    output: list[int] = []
    batch.update(added=[(0, 1, output)])
    assert batch.step(float("nan")) == [[end]]
    output.append(end)
    assert batch.step(-1e3) == [[end]]


def test_the_board_knows_the_newest(linear, exports):
    batch = refusing_batch(linear, exports, "refusal")
    assert batch.board.read(7) is None
    batch.board.write(7, 0.25)
    assert Board.open("no such file").read(7) is None
    batch.board.write(7 + Board.SLOTS, 0.5)
    assert (batch.board.read(7), batch.board.read(7 + Board.SLOTS)) == (None, 0.5)

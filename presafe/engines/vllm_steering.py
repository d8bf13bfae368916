"""The decision inside vLLM: a logits processor that steers the rows of its batch, in the process that samples.

vLLM imports it by name (`PROCESSOR`). What it does is fixed when the engine starts (`SteeringConfig`). Of a request it
reads what our engine gave it, and nothing else.
"""

import os
import select
import signal
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from presafe.config import Think
from presafe.decision.reader import DecisionReader
from presafe.decision.rule import GateRule
from presafe.decision.steering import Steering, first_tokens
from presafe.engines.exported import load_tokenizer
from presafe.records import DecisionMode
from presafe.thinking import think_format

PROCESSOR = "presafe.engines.vllm_steering:SteeringProcessor"
NUMBER, DECISION = "completion", "decision"
"""Extra arguments of a request: its number on the board, and how its decision is decoded."""


@dataclass(frozen=True)
class SteeringConfig:
    """vLLM's `additional_config`: it travels to every process of the engine."""

    tokenizer: str
    """Folder or hub name."""
    think: Think | None
    """What the config or the card says of the think format."""
    rule: GateRule
    reader: DecisionReader
    end: int
    """The token that ends a completion."""
    board: str
    """File of the Board."""
    replica: int
    """Process that the engine lives and dies with."""

    def compute_hash(self) -> str:
        """Of all that changes what vLLM compiles: nothing here."""
        return "steering"


class Board:
    """p' of the newest completions, by their numbers, in memory that two processes share.

    vLLM has no way back for a number that is not about a sampled token. Its log-probabilities could carry one, at the
    price of the whole vocabulary's at every step. The process that samples writes p' before it sends the first token,
    and the one that answers reads it when that token came.
    """

    SLOTS = 2**20
    """Numbers that are kept: a completion is over long before so many newer ones are decided."""
    _RECORD = np.dtype([("number", np.int64), ("probability", np.float64)])

    def __init__(self, records: np.ndarray[Any, Any]) -> None:
        self._records = records

    @classmethod
    def create(cls) -> tuple["Board", str]:
        """A new one, and its file."""
        with tempfile.NamedTemporaryFile(prefix="presafe-board-", delete=False) as file:
            file.truncate(cls.SLOTS * cls._RECORD.itemsize)
        return cls.open(file.name), file.name

    @classmethod
    def open(cls, path: str) -> "Board":
        """The one in this file; one that nobody reads where it is missing, as for ranks of a model on other nodes."""
        if not Path(path).exists():
            return cls(np.zeros(cls.SLOTS, cls._RECORD))
        return cls(np.memmap(path, cls._RECORD, mode="r+"))

    def write(self, number: int, probability: float) -> None:
        """`number`: above 0."""
        self._records[number % self.SLOTS] = (number, probability)

    def read(self, number: int) -> float | None:
        """None where it was never written, or long ago."""
        record = self._records[number % self.SLOTS]
        return float(record["probability"]) if record["number"] == number else None


class _Row:
    """One completion in the batch. `output` is vLLM's own list of its tokens, which grows."""

    def __init__(self, number: int, decision: DecisionMode | None, output: list[int]) -> None:
        self.number, self.decision, self.output = number, decision, output
        self.steering: Steering
        self._seen = 0

    def catch_up(self) -> None:
        """Take the tokens that came; none are of interest once the gate has refused."""
        if not self.steering.ended:
            for token in self.output[self._seen :]:
                self.steering.push(token)
        self._seen = len(self.output)


class SteeringProcessor(LogitsProcessor):  # type: ignore[misc] # vLLM has no types here
    """Steers the rows that have not chosen Path B; those that have are vLLM's to sample as the client asked.

    A row can leave the batch and come back (preemption, a step without room for it), with its tokens: its steering is
    made again of them, and of p' on the board. Where a gate is on, the decision is greedy whatever a request says.
    While a long prompt is read in pieces, vLLM asks for a token after each piece and drops it: as long as a row has no
    token, each step decides anew, and the last one stands.
    """

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Raise ValueError for a request that did not come through our engine."""
        if NUMBER not in (sampling_params.extra_args or {}):
            raise ValueError("found a request without a number; ask through the endpoint")

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:  # noqa: ARG002
        config = vllm_config.additional_config
        assert isinstance(config, SteeringConfig), "the engine was started without its steering"
        self._config = config
        self._think = think_format(load_tokenizer(config.tokenizer), config.think)
        self._begun = first_tokens(self._think, readout=config.reader.readout)
        self._board = Board.open(config.board)
        self._rows: dict[int, _Row] = {}
        if config.replica != os.getpid():
            threading.Thread(target=_die_with, args=(config.replica, os.getppid()), daemon=True).start()

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: Any) -> None:
        """Rows that came, went or changed places."""
        process_dict_updates(self._rows, batch_update, self._row)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits [rows, vocabulary], changed in place: a row that is not free keeps one token."""
        probability = self._config.reader.hide(logits)
        greedy: list[int] = []
        forced: dict[int, int] = {}
        for place, row in list(self._rows.items()):
            if not row.output:
                decided = probability(place)
                self._board.write(row.number, decided)
                row.steering = self._steering(row.decision, decided)
            row.catch_up()
            token = self._config.end if row.steering.ended else row.steering.forced
            if token is not None:
                forced[place] = token
            elif row.steering.greedy:
                greedy.append(place)
            elif row.steering.over:
                del self._rows[place]
        if greedy:
            places = torch.tensor(greedy, device=logits.device)
            _keep(logits, places, logits[places].argmax(dim=-1))
        if forced:
            _keep(logits, *torch.tensor([[*forced], [*forced.values()]], device=logits.device))
        return logits

    def _row(self, params: Any, prompt: list[int] | None, output: list[int]) -> _Row:  # noqa: ARG002
        asked = params.extra_args.get(DECISION, "greedy")
        row = _Row(params.extra_args[NUMBER], "greedy" if self._config.rule.mode == "on" else asked, output)
        if output:
            decided = self._board.read(row.number)
            assert decided is not None, "a completion has tokens that nobody decided on"
            row.steering = self._steering(row.decision, decided)
        return row

    def _steering(self, decision: DecisionMode | None, probability: float) -> Steering:
        begun = [] if decision is None else self._begun
        steering = Steering(self._think, self._config.rule, begun, decision)
        steering.decide(probability)
        return steering


def _keep(logits: torch.Tensor, places: torch.Tensor, tokens: torch.Tensor) -> None:
    """Leave the rows at `places` no choice."""
    logits[places] = -torch.inf
    logits[places, tokens] = 0.0


def _die_with(replica: int, parent: int) -> None:
    """End this process, and the engine's that made it, when the replica dies.

    vLLM's processes notice no SIGKILL of theirs, and would keep the GPU's memory from the replica's successor.
    """
    select.select([os.pidfd_open(replica)], [], [])
    if parent != replica:
        with suppress(ProcessLookupError):  # another rank was faster
            os.kill(parent, signal.SIGKILL)
    os._exit(1)

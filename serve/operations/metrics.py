"""What a replica tells Prometheus, through Ray's metrics: Ray adds the tags deployment, replica and application.

Ray puts `ray_` in front of every name here. It passes histograms on by bucket, so that their `_sum` is only near the
truth (each value counts as the middle of its bucket): use quantiles, not means. It forgets a gauge that has not been
set for two export intervals (of 10 s by default): call `engine`, `drift` and `audit` every few seconds.
"""

import math

from ray.serve.metrics import Counter, Gauge, Histogram

from presafe.decision.rule import Path, PathTaken

SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600]
PROBABILITIES = [k / 10 for k in range(1, 11)]


class Metrics:
    """One replica's metrics. Make it inside the replica: Ray takes the tags from there."""

    def __init__(self) -> None:
        self._requests = Counter("presafe_requests_total", "Answered requests, by HTTP status.", ("code",))
        self._prepare_seconds = Histogram(
            "presafe_prepare_seconds",
            "CPU seconds of reading a request: parsed, cleaned, rendered, tokenised.",
            SECONDS,
        )
        self._decisions = Counter(
            "presafe_decisions_total",
            "Completions by path taken (refuse, answer, think) and gate mode.",
            ("path", "gate"),
        )
        self._disagreements = Counter(
            "presafe_gate_disagreements_total",
            "Decisions in which the gate's path is not the one taken: in shadow what it would change; on, the model "
            "left its reasoning out by itself.",
        )
        self._refuse_probability = Histogram(
            "presafe_refuse_probability", "Probability of refusal; one that is not a number counts as 1.", PROBABILITIES
        )
        self._decision_seconds = Histogram("presafe_seconds_to_decision", "From arrival to the decision.", SECONDS)
        self._first_token_seconds = Histogram(
            "presafe_seconds_to_first_token", "From arrival to the first text.", SECONDS
        )
        self._request_seconds = Histogram("presafe_request_seconds", "From arrival to the end.", SECONDS, ("path",))
        self._prompt_tokens = Counter("presafe_prompt_tokens_total", "Tokens of prompts.")
        self._completion_tokens = Counter("presafe_completion_tokens_total", "Generated tokens, reasoning included.")
        self._reasoning_tokens = Counter("presafe_reasoning_tokens_total", "Generated tokens of reasoning.")
        self._tokens_saved = Counter(
            "presafe_tokens_saved_total",
            "Estimate of the reasoning tokens that were spared on the other paths, each by this replica's mean over "
            "path think.",
        )
        self._running = Gauge("presafe_requests_running", "Completions being generated.")
        self._waiting = Gauge("presafe_requests_waiting", "Completions waiting for the engine.")
        self._kv_cache = Gauge("presafe_kv_cache_used_share", "Share of the KV cache in use, 0 to 1.")
        self._drift_psi = Gauge("presafe_drift_psi", "Population stability index of the last refuse probabilities.")
        self._drift_alarm = Gauge("presafe_drift_alarm", "1 while the drift alarm is on.")
        self._lines_lost = Gauge("presafe_audit_lines_lost", "Decision log lines that could not be written.")
        self._thinking = self._reasoning_of_thinking = 0

    def request(self, code: int) -> None:
        """A request was answered, with this HTTP status."""
        self._requests.inc(tags={"code": str(code)})

    def prepared(self, cpu_seconds: float) -> None:
        """A request was read, or refused for what it says, for so much CPU."""
        self._prepare_seconds.observe(cpu_seconds)

    def decision(
        self, *, path: PathTaken, gate: str, gate_path: Path | None, refuse_probability: float, seconds: float
    ) -> None:
        """A decision was taken, `seconds` after its request came; `gate_path` is None where the gate is off."""
        self._decisions.inc(tags={"path": path, "gate": gate})
        closed_by_the_gate = gate == "on" and gate_path == "refuse"  # an answer behind it is what gate_action says
        if gate_path not in (None, path) and not closed_by_the_gate:
            self._disagreements.inc()
        self._refuse_probability.observe(1.0 if math.isnan(refuse_probability) else refuse_probability)
        self._decision_seconds.observe(seconds)

    def first_token(self, seconds: float) -> None:
        """A completion's first text came, `seconds` after its request."""
        self._first_token_seconds.observe(seconds)

    def finished(
        self, *, path: PathTaken, prompt_tokens: int, completion_tokens: int, reasoning_tokens: int, seconds: float
    ) -> None:
        """A completion ended. `prompt_tokens` is 0 for all but the first choice of a request."""
        self._request_seconds.observe(seconds, tags={"path": path})
        _add(self._prompt_tokens, prompt_tokens)
        _add(self._completion_tokens, completion_tokens)
        _add(self._reasoning_tokens, reasoning_tokens)
        if path == "think":
            self._thinking += 1
            self._reasoning_of_thinking += reasoning_tokens
        elif self._thinking:
            _add(self._tokens_saved, self._reasoning_of_thinking / self._thinking)

    def engine(self, *, running: int, waiting: int, kv_cache_used_share: float) -> None:
        """How busy the engine is."""
        self._running.set(running)
        self._waiting.set(waiting)
        self._kv_cache.set(kv_cache_used_share)

    def drift(self, psi: float | None, *, alarm: bool) -> None:
        """The drift monitor's state; before it has an index there is nothing to tell."""
        if psi is not None:
            self._drift_psi.set(psi)
        self._drift_alarm.set(int(alarm))

    def audit(self, lines_lost: int) -> None:
        """How many lines the decision log has lost so far."""
        self._lines_lost.set(lines_lost)


def _add(counter: Counter, amount: float) -> None:
    """Ray's counters take no zero."""
    if amount > 0:
        counter.inc(amount)

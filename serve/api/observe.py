"""Everything a replica tells about its decisions: metrics, decision log, drift alarm."""

import logging
import math
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from opentelemetry.trace import Span

from presafe.config import EndpointSettings
from presafe.decision.events import Decided, Finished
from presafe.decision.text import Text
from presafe.engines.streaming import Load
from presafe.telemetry import tracing
from serve.api.protocol import ChatRequest
from serve.api.reply import Choices, Served
from serve.operations.audit import AuditLog, DecisionRecord, conversation_digest, read_hash_key
from serve.operations.drift import DriftMonitor, load_reference
from serve.operations.metrics import Metrics

logger = logging.getLogger("ray.serve")


class Observer:
    """Of one replica, in its event loop."""

    def __init__(self, settings: EndpointSettings, served: Served, name: str) -> None:
        """`name` is the replica's, and its log's. Raises UserError where a file cannot be read or written."""
        self.metrics, self.served = Metrics(), served
        audit, drift = settings.audit, settings.drift
        self.log = None
        if audit.folder is not None:
            self.log = AuditLog(audit.folder, name, max_bytes=int(audit.max_mb * 1e6), files=audit.files)
        self.keeps_text = audit.text
        self.hash_key = None if audit.hash_key_file is None else read_hash_key(audit.hash_key_file)
        reference = None if drift.reference is None else load_reference(drift.reference)
        self._drift = DriftMonitor(drift.window, reference)

    def decided(self, decided: Decided, seconds: float) -> None:
        """One request's decision, so long after it came."""
        self.metrics.decision(
            path=decided.path,
            gate=self.served.gate,
            gate_path=decided.gate_path,
            refuse_probability=decided.refuse_probability,
            seconds=seconds,
        )
        before = self._drift.alarm
        self._drift.add(decided.refuse_probability)
        if self._drift.alarm and not before:
            logger.warning("drift alarm: the refuse probabilities have shifted, PSI %.2f", self._drift.psi)

    def close(self) -> None:
        """Write what is left of the log, and send what is left of the traces."""
        if self.log is not None:
            self.log.close()
        tracing.flush()

    def state(self, load: Load, most: int) -> None:
        """How the replica is; `most` completions generate at once."""
        self.metrics.engine(
            running=min(load.running, most), waiting=max(0, load.running - most), kv_cache_used_share=load.kv_use
        )
        self.metrics.drift(self._drift.psi, alarm=self._drift.alarm)
        if self.log is not None:
            self.metrics.audit(self.log.lost)


class Watch:
    """Follows one request from its arrival to the end of its last completion."""

    def __init__(self, observer: Observer, request_id: str, key_id: str | None, began: float, span: Span) -> None:
        self._observer, self._request_id, self._key_id, self._began = observer, request_id, key_id, began
        self._span = span
        span.set_attributes({"gen_ai.request.model": observer.served.model, "gen_ai.response.id": request_id})
        self._decided: Decided | None = None
        self._decision_seconds = 0.0
        self._digest: str | None = None
        self._spoke = False

    async def over(
        self, answers: AsyncGenerator[Choices], request: ChatRequest, prompt_tokens: int, n: int
    ) -> AsyncGenerator[Choices]:
        """`answers`, noted as they pass. A completion that its client left is noted without an end."""
        open_choices = set(range(n))
        try:
            async with aclosing(answers):
                async for index, event in answers:
                    self._note(index, event)
                    if isinstance(event, Finished):
                        open_choices.discard(index)
                        self._finished(index, event, request, prompt_tokens)
                    yield index, event
        finally:
            if self._decided is not None:
                for index in sorted(open_choices):
                    self._write(index, None, request, prompt_tokens)

    def _note(self, index: int, event: Decided | Text | Finished) -> None:
        seconds = time.monotonic() - self._began
        if isinstance(event, Decided) and self._decided is None:
            self._decided, self._decision_seconds = event, seconds
            self._observer.decided(event, seconds)
            gate, gate_path = self._observer.served.gate, event.gate_path or "none"
            decision = {"presafe.path": event.path, "presafe.gate": gate, "presafe.gate_path": gate_path}
            self._span.add_event("decision", decision | {"presafe.refuse_probability": event.refuse_probability})
        elif isinstance(event, Text) and not self._spoke and index == 0:
            self._spoke = True
            self._observer.metrics.first_token(seconds)
            self._span.add_event("first token")

    def _finished(self, index: int, event: Finished, request: ChatRequest, prompt_tokens: int) -> None:
        assert self._decided is not None
        self._observer.metrics.finished(
            path=self._decided.path,
            prompt_tokens=0 if index else prompt_tokens,
            completion_tokens=event.completion_tokens,
            reasoning_tokens=event.reasoning_tokens,
            seconds=time.monotonic() - self._began,
        )
        tokens = {"completion": event.completion_tokens, "reasoning": event.reasoning_tokens, "prompt": prompt_tokens}
        counted = {f"presafe.{kind}_tokens": count for kind, count in tokens.items()}
        self._span.add_event("end", {"presafe.choice": index, "presafe.finish_reason": event.finish_reason, **counted})
        self._write(index, event, request, prompt_tokens)

    def _write(self, index: int, event: Finished | None, request: ChatRequest, prompt_tokens: int) -> None:
        observer, decided = self._observer, self._decided
        if observer.log is None:
            return
        assert decided is not None
        messages: list[dict[str, Any]] = [*request.conversation]
        if self._digest is None:  # once, whatever n
            self._digest = conversation_digest(messages, observer.hash_key)
        probability = decided.refuse_probability
        observer.log.write(
            DecisionRecord(
                request_id=self._request_id,
                choice=index,
                key_id=self._key_id,
                model=observer.served.model,
                path=decided.path,
                refuse_probability=None if math.isnan(probability) else probability,
                threshold=observer.served.threshold,
                gate=observer.served.gate,
                gate_path=decided.gate_path,
                finish_reason=None if event is None else event.finish_reason,
                prompt_tokens=prompt_tokens,
                completion_tokens=0 if event is None else event.completion_tokens,
                reasoning_tokens=0 if event is None else event.reasoning_tokens,
                seconds_to_decision=self._decision_seconds,
                seconds=time.monotonic() - self._began,
                conversation_sha256=self._digest,
                messages=messages if observer.keeps_text else None,
            )
        )

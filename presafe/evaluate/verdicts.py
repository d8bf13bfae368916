"""From generations to records: one verdict an answer, with the gate off and with the gate on."""

from collections.abc import Iterable, Iterator, Sequence

from presafe.config import Evaluate, Gate, Suite
from presafe.config.attacks import NO_ATTACK
from presafe.decision.rule import GateMode, decide
from presafe.engines.job import Generation
from presafe.evaluate.harm import Harm
from presafe.evaluate.labels import joined
from presafe.evaluate.suite_prompts import Asked, SuitePrompts
from presafe.graders import grade
from presafe.records import Decision, EvalRecord, FinishReason


def eval_records(
    model: str,
    answers: Iterable[tuple[Generation, Decision]],
    prompts: SuitePrompts,
    suites: Sequence[Suite],
    *,
    evaluate: Evaluate,
    gate: Gate,
    threshold: float,
    harm: Harm | None = None,
) -> Iterator[EvalRecord]:
    """Two records a generation and suite: as the model answered, and as the gate would have it.

    An answer to a reasoning prompt is graded against its reference; any other one is what the judge says, whatever its
    row holds: the first judge, or on a harmful suite `harm` where there is one. With the gate on, a prompt at or above
    the threshold gets the gate's refusal and nothing is generated; below it, the answer is the one without the gate. A
    model whose engine shows no p' has no records with the gate on. A suite has as many answers to a prompt as it asks
    for, and not those that another suite with the same prompt does; an answer under an attack has records of the suites
    whose kind the attack names, one of a further decoding of those whose kind that names, with its name as `decoding`.
    Answers may come in any order; one is held at a time.
    """
    labels, kinds = {suite.name: suite.attack for suite in suites}, {one.name: one.kinds for one in evaluate.attacks}
    judge, decoding = evaluate.judges[0].name, evaluate.decoding
    described = f"temperature={decoding.temperature:g}, top_p={decoding.top_p:g}"
    decided = f"{described}, {evaluate.decision} decision"
    further = {one.name: one for one in evaluate.named_decodings()}
    for row, said in answers:
        probability = row.head_probability if row.head_probability is not None else float("nan")
        modes: list[tuple[GateMode, bool]] = [("off", False)]
        if row.error is not None or row.head_probability is not None:
            modes.append(("on", row.error is None and decide(probability, threshold) == "refuse"))
        for prompt in prompts[row.prompt_id]:
            if row.attack is not None and prompt.kind not in kinds[row.attack]:
                continue
            how = None if row.decoding is None else further[row.decoding]
            samples = evaluate.samples_of(prompt.suite, prompt.kind) if how is None else how.samples_of(prompt.kind)
            if row.sample >= samples:
                continue
            graded_by = harm if prompt.kind == "harmful" else None
            decided_by, found = (judge, said) if graded_by is None else (graded_by.judge, graded_by.answer(row))
            thought = graded_by.thought(row) if graded_by is not None else None
            score = graded_by.score(row) if graded_by is not None else None
            scored_as_refusal = 0.0 if graded_by is not None and graded_by.scores is not None else None
            verdict = _verdict(row.answer, row.finish_reason, prompt, found)
            for mode, refused_by_gate in modes:
                answer = gate.refusal if refused_by_gate else row.answer
                reasoning = "" if refused_by_gate else row.reasoning
                finish_reason = "stop" if refused_by_gate else row.finish_reason
                decision = "refuse" if refused_by_gate else said
                yield EvalRecord(
                    suite=prompt.suite,
                    prompt_id=row.prompt_id,
                    attack=joined(labels[prompt.suite], row.attack or NO_ATTACK),
                    model=model,
                    cot=row.cot,
                    gate=mode,
                    sample=row.sample,
                    decoding=row.decoding or (described if row.path is None else decided),
                    reasoning=reasoning,
                    answer=answer,
                    refused_before_cot=decision == "refuse" and not reasoning,
                    head_probability=probability,
                    verdict=_verdict(answer, "stop", prompt, "refuse") if refused_by_gate else verdict,
                    judge="gate" if refused_by_gate else decided_by,
                    num_tokens=0 if refused_by_gate else row.num_tokens,
                    truncated=finish_reason == "length",
                    path="refuse" if refused_by_gate else row.path,
                    thought_verdict="none" if refused_by_gate and thought is not None else thought,
                    harm_score=scored_as_refusal if refused_by_gate else score,
                )


def _verdict(answer: str, finish_reason: FinishReason, prompt: Asked, decision: Decision) -> str:
    """The judge's decision, or of a reasoning prompt the grade: unscored where the answer is empty or cut off, too."""
    if prompt.kind != "reasoning":
        return decision
    if finish_reason == "length" or not answer.strip():
        return "unscored"
    right = grade(answer, prompt.reference)
    return "unscored" if right is None else "correct" if right else "incorrect"

"""How many tokens the alignment trains on, and the GPU-hours that takes."""

from dataclasses import dataclass

from presafe.align.preflight.shape import Shape
from presafe.config import Align, Config, ReadoutHead

MODEL_FLOPS_UTILISATION = 0.3
"""Share of a GPU's peak that training reaches: on an H200 with one rank, 0.32 to 0.35 (docs/gpu.md)."""
PEAK_FLOPS = {"A100": 312e12, "H100/H200": 989e12}
"""Dense bfloat16 operations a second, from the makers' data sheets."""


@dataclass(frozen=True)
class Tokens:
    """Of the whole training: tokens with a completion and in the signal pool, and how far back a token attends."""

    demonstrations: float
    pool: float
    context: float


def tokens_at_most(config: Config) -> Tokens:
    """Upper bound from the settings: every sequence as long as the settings allow."""
    align, teacher = config.align, config.teacher
    prompt = min(
        align.micro_batch_tokens,
        max(
            engine.max_prompt_characters if engine.kind == "http" else engine.max_prompt_tokens
            for engine in (teacher.engine, teacher.trace_engine)
        ),
    )
    longest = min(align.micro_batch_tokens, prompt + max(teacher.trace.max_new_tokens, teacher.answer.max_new_tokens))
    return Tokens(
        align.steps * align.batch_size * longest, align.steps * align.signal_batch_size * prompt, context=longest
    )


def flops(shape: Shape, align: Align, tokens: Tokens) -> float:
    """Floating-point operations of the training.

    A token and a weight cost 2 in the forward pass, 2 for the gradient of the activations, 2 for the weight's own if it
    trains, and 2 more where checkpointing recomputes the forward pass. Causal attention over a context of s costs
    2 s (query width) a layer in each forward pass, and twice that in the backward pass.
    """
    weights, trained = shape.matrix_parameters, shape.trainable(align.lora)
    forwards = 2 if align.gradient_checkpointing else 1
    own = 2 * weights if align.lora is None else 2 * trained * (forwards + 2)
    by_token = 2 * weights * (forwards + 1) + own
    attention = 2 * shape.layers * shape.query * tokens.context * (forwards + 2)
    anchored = isinstance(align.head, ReadoutHead) and align.head.kl_weight > 0
    anchor = 2 * weights * tokens.pool if anchored else 0.0
    return (by_token + attention) * tokens.demonstrations + by_token * tokens.pool + anchor


def gpu_hours(operations: float, peak_flops: float) -> float:
    """GPU-hours of `operations` at MODEL_FLOPS_UTILISATION of the peak."""
    return operations / (MODEL_FLOPS_UTILISATION * peak_flops) / 3600

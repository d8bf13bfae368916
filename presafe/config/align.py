"""Sections `align` and `gate`."""

from typing import Annotated, Literal, Self

from pydantic import Field, Tag, model_validator

from presafe.config.attacks import Attack, check_forms
from presafe.config.demonstrations import Demonstrations
from presafe.config.settings import HowItRuns, Settings, by_kind
from presafe.config.workers import Group


class Lora(Settings):
    """Low-rank adapters; the paper states neither rank nor targets, so these are ours."""

    r: int = Field(64, ge=1)
    """Rank."""
    alpha: float = Field(128, gt=0)
    """Scale: the adapter's output times alpha / r."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout in front of the adapter."""
    target_modules: list[str] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    """Linear layers that get one."""


class LinearHead(Settings):
    """The paper's head: a linear probe on the hidden state at the pre-CoT position."""

    kind: Literal["linear"] = "linear"
    """Chooses this head."""
    layer: int = -1
    """Decoder layer whose output it reads, counted from 1; -1 is the final-norm hidden state."""
    learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate of its own; the model's where there is none."""


class ReadoutHead(Settings):
    """Ours: the model's own probability of Path A at the decision token. It adds no weights."""

    kind: Literal["readout"]
    """Chooses this head."""
    kl_weight: float = Field(1.0, ge=0)
    """Weight of the KL divergence from the base, the model without its adapter, on the tokens around the decision."""


Head = Annotated[Annotated[LinearHead, Tag("linear")] | Annotated[ReadoutHead, Tag("readout")], by_kind("linear")]


class Schedule(Settings):
    """A factor that changes with the step."""

    shape: Literal["constant", "linear", "cosine"] = "constant"
    """How it goes on after its warm-up: at 1, or down to 0 at the last step."""
    warmup: float = Field(0.0, ge=0, lt=1)
    """Share of the steps over which it rises to 1."""
    start: float = Field(0.0, ge=0, lt=1)
    """Share of the steps before which it is 0."""


class Align(Settings):
    """Stage `align`: L = L_LM + weight * L_align under DeepSpeed. Values are ours: the paper states none of them."""

    workers: HowItRuns[Group] = Group()
    """Ranks of the Ray Train group."""
    objective: Literal["presafe", "sft", "benign", "signals", "safepath", "safekey"] = "presafe"
    """What is trained (docs/alignment.md): `presafe` is the paper; `sft` has its demonstrations alone (DirectRefusal),
    `benign` only those of Path B, `signals` those of Path B and the signals; `safepath` trains a safety primer at the
    start of the CoT, `safekey` a head on the mean hidden state in place of the pre-CoT one."""
    labels: Literal["classifier", "random", "permuted"] = "classifier"
    """`random` shuffles the signals p_j over the prompts: the control that shows whether they carry anything.
    `permuted` shuffles them over the harmful prompts and over the others apart: the decision stays, what they say of a
    single prompt goes."""
    head: Head = LinearHead()
    """What gives p'_j."""
    seed: int | None = Field(None, ge=0)
    """Seed of what the alignment draws: which demonstrations it takes, initialisation, batches; by default `run.seed`.
    Prompts, base and suites stay those of `run.seed`."""
    primer: str = "Let's think about safety first"
    """What objective `safepath` puts at the start of the CoT."""
    zero_stage: HowItRuns[Literal[0, 1, 2, 3]] = 3
    """DeepSpeed ZeRO stage."""
    offload: HowItRuns[Literal["none", "optimizer", "parameters"]] = "none"
    """What is kept in host memory: nothing, the optimizer's states, or (ZeRO-3) the parameters too."""
    lora: Lora | None = Lora()
    """Adapters; null trains all weights."""
    weight: float = Field(1.0, ge=0)
    """Weight of L_align."""
    weight_schedule: Schedule = Schedule()
    """Factor of `weight` over the steps."""
    learning_rate: float = Field(1e-4, gt=0)
    """Peak learning rate."""
    learning_rate_schedule: Schedule = Schedule(shape="cosine", warmup=0.1)
    """Factor of all learning rates over the steps."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """AdamW's decay rates of its two moments."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's decoupled weight decay of matrices, the head's too; biases and norms have none."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Global gradient-norm clipping."""
    steps: int = Field(200, ge=1)
    """Optimizer steps."""
    batch_size: int = Field(32, ge=1)
    """Demonstrations of one step, over all ranks."""
    signal_batch_size: int = Field(0, ge=0)
    """Prompts of the signal pool in one step beside them, which are prefilled only and train L_align alone: the align
    split's that have no demonstration, and split `pool`."""
    micro_batch_tokens: int = Field(8192, ge=1)
    """Tokens of one packed micro-batch on one rank; a longer sequence is left out and counted."""
    max_refuse_examples: int | None = Field(None, ge=0)
    """At most so many Path A demonstrations of the run's own; sources of `demonstrations` have a `limit` each."""
    max_think_examples: int | None = Field(None, ge=0)
    """At most so many Path B demonstrations of the run's own."""
    demonstrations: list[Demonstrations] = []
    """Ready demonstrations beside the run's own, none by default."""
    forms: list[Attack] = []
    """Forms in which the run's own prompts are asked as well, harmful and benign ones alike: any attack but `prefill`.
    A copy takes the signal and the demonstration of its prompt, so that the decision follows from what is asked and
    not from how. Their words may not be those of `evaluate.attacks`."""
    forms_per_prompt: int | None = Field(None, ge=1)
    """In how many of them each prompt is asked, drawn; by default in all. Each copy is drawn as often as its prompt."""
    gradient_checkpointing: HowItRuns[bool] = True
    """Recompute activations in the backward pass."""
    kernels: HowItRuns[Literal["auto", "torch"]] = "auto"
    """`auto` uses FlashAttention and Liger on a GPU where they are installed; `torch` has torch's own kernels alone."""
    checkpoint_every: HowItRuns[int] = Field(50, ge=1)
    """Steps between committed checkpoints: what a crash costs at most."""
    probe_every: HowItRuns[int] = Field(20, ge=1)
    """Steps between looks at the validation split: the head's AUROC, and who the model itself would refuse."""
    probe_prompts: HowItRuns[int] = Field(64, ge=2)
    """Validation prompts of a look."""
    merge: bool = False
    """Export the merged weights beside the adapter."""
    merge_gate: bool = False
    """Export merged weights whose vocabulary has the head as one more row (`merged-gate/`)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.offload != "none" and self.zero_stage < (3 if self.offload == "parameters" else 1):
            raise ValueError(
                f"align.offload {self.offload} needs a higher align.zero_stage (parameters 3, optimizer 1)"
            )
        if isinstance(self.head, ReadoutHead):
            if self.lora is None and self.head.kl_weight > 0:
                raise ValueError(
                    "align.head readout anchors to the base by disabling the adapter: set lora or kl_weight 0"
                )
            if self.objective == "safekey":
                raise ValueError("align.objective safekey trains a linear head: set align.head.kind to linear")
        if self.merge_gate and (not isinstance(self.head, LinearHead) or self.head.layer != -1):
            raise ValueError(
                "align.merge_gate writes a linear head on the final-norm hidden state: set head.layer to -1"
            )
        if self.merge and self.lora is None:
            raise ValueError("align.merge merges an adapter, and all weights are exported as they are: leave it out")
        if self.merge_gate and self.objective not in ("presafe", "signals"):
            raise ValueError(f"align.merge_gate writes a head, and objective {self.objective} trains none there")
        if self.labels != "classifier" and self.objective in ("sft", "benign", "safepath"):
            raise ValueError(
                f"align.labels {self.labels} has no meaning under objective {self.objective}, which uses no signal"
            )
        check_forms(self.forms)
        names = [source.name for source in self.demonstrations]
        if len(set(names)) < len(names):
            raise ValueError("align.demonstrations of the same name; give each its own")
        return self


class Gate(Settings):
    """The safety head kept as a gate at inference (the paper drops it: `off`)."""

    refusal: str = Field("I'm sorry, but I can't help with that.", pattern=r"\S")
    """What a gate's refusal says."""
    max_over_refusal: float = Field(0.01, ge=0, lt=1)
    """Share of benign validation prompts that the calibrated threshold may refuse."""

"""`presafe align --plan`: what every ZeRO stage and offload would need for the configured model, as a table."""

from presafe.align.examples.mixture import mixture
from presafe.align.preflight.cost import MODEL_FLOPS_UTILISATION, PEAK_FLOPS, flops, gpu_hours, tokens_at_most
from presafe.align.preflight.fit import OFFLOADS, STAGES, legal
from presafe.align.preflight.memory import Prediction, Ranks, predict
from presafe.align.preflight.shape import Shape, read_shape
from presafe.cluster.capacity import GB
from presafe.config import Align, Config
from presafe.runtime import model_folder

GPUS_OF_A_NODE = 8
DEFAULT_GPU_GB = 80.0
OTHER_COUNTS = (1, 2, 4, 8)


def plan_text(config: Config, gpus: int | None) -> str:
    """The model's shape, the table, what the configured row is made of, what the training costs, and on what it trains.

    `gpus` replaces the configured number of ranks. Needs no cluster, and of the model only its config.json. Raises
    UserError where there is none.
    """
    workers = config.align.workers
    on_gpu = gpus is not None or workers.num_gpus > 0
    ranks = gpus or workers.limits[0]
    memory = (workers.gpu_memory_gb or DEFAULT_GPU_GB) if on_gpu else None
    base = model_folder(config)
    shape = read_shape(base, config.align.lora)
    table = Table(shape, config.align, config.model.dtype, ranks, memory)
    heading = _heading(config, base, shape, ranks, memory)
    return "\n".join([*heading, "", *table.lines(), "", *_cost(config, shape, ranks), *mixture(config)])


class Table:
    """Predictions of all legal choices of stage and offload for one configuration, by number of ranks."""

    def __init__(self, shape: Shape, align: Align, dtype: str, ranks: int, gpu_gb: float | None) -> None:
        self.shape, self.align, self.dtype, self.ranks, self.gpu_gb = shape, align, dtype, ranks, gpu_gb
        self.counts = sorted({ranks, *OTHER_COUNTS})
        # Full fine-tuning in bfloat16 needs the float32 copy that stage 0 does not keep.
        lowest = 1 if align.lora is None and dtype == "bfloat16" else 0
        self.choices = [(s, o) for o in OFFLOADS for s in STAGES if legal(s, o) and s >= lowest]

    def prediction(self, stage: int, offload: str, ranks: int) -> Prediction:
        align = self.align.model_copy(update={"zero_stage": stage, "offload": offload})
        return predict(self.shape, align, self.dtype, Ranks(ranks, GPUS_OF_A_NODE, self.gpu_gb is not None))

    def fits(self, stage: int, offload: str, ranks: int) -> bool:
        return self.gpu_gb is None or self.prediction(stage, offload, ranks).device_bytes <= self.gpu_gb * GB

    def recommended(self) -> tuple[int, str] | None:
        """Of the choices that fit and offload least, the one that needs the least memory on a rank."""
        for offload in OFFLOADS:
            fitting = [(s, o) for s, o in self.choices if o == offload and self.fits(s, o, self.ranks)]
            if fitting:
                return min(fitting, key=lambda c: self.prediction(c[0], c[1], self.ranks).device_bytes)
        return None

    def lines(self) -> list[str]:
        """The table, a legend, and the parts of the configured row."""
        best, own = self.recommended(), (self.align.zero_stage, self.align.offload)
        unit = "GPU" if self.gpu_gb is not None else "rank"
        head = "".join(f"{f'{count} {unit}' + ('s' if count > 1 else ''):>16}" for count in self.counts)
        lines = [f"   ZeRO offload    {head}  checkpoint  export"]
        for stage, offload in self.choices:
            cells = "".join(f"{self._cell(stage, offload, count):>16}" for count in self.counts)
            mark = (">" if (stage, offload) == own else " ") + ("*" if (stage, offload) == best else " ")
            files = self.prediction(stage, offload, self.ranks)
            sizes = f"{files.checkpoint / GB:>9.1f} GB {files.export / GB:>6.1f} GB"
            lines.append(f"{mark} {stage:>4} {offload:<11}{cells} {sizes}")
        what = f"GB on each {unit} at its peak"
        what += ", in brackets GB of a node's memory; ! does not fit" if self.gpu_gb is not None else ""
        lines += [f"   {what}; > is configured, * recommended for {self.ranks} {unit}(s)", ""]
        parts = self.prediction(*own, self.ranks).device
        return [
            *lines,
            "   configured: " + ", ".join(f"{name} {size / GB:.1f}" for name, size in parts.items() if size),
        ]

    def _cell(self, stage: int, offload: str, ranks: int) -> str:
        prediction = self.prediction(stage, offload, ranks)
        if self.gpu_gb is None:
            return f"{prediction.host_bytes / min(ranks, GPUS_OF_A_NODE) / GB:.2f}"
        mark = " " if self.fits(stage, offload, ranks) else "!"
        return f"{prediction.device_bytes / GB:.1f}{mark}({prediction.host_bytes / GB:.0f})"


def _heading(config: Config, base: str, shape: Shape, ranks: int, memory: float | None) -> list[str]:
    align, trained = config.align, shape.trainable(config.align.lora)
    what = "all weights" if align.lora is None else f"LoRA r={align.lora.r} on {shape.adapted} linear layers"
    where = f"{ranks} rank(s) on CPUs" if memory is None else f"{ranks} GPU(s) of {memory:g} GB"
    return [
        f"{base}: {shape.architecture}, {shape.parameters / 1e9:.2f}e9 parameters, {shape.layers} layers, "
        f"hidden {shape.hidden}, intermediate {shape.intermediate}, vocabulary {shape.vocabulary}",
        f"trains {what}: {trained / 1e6:.1f}e6 parameters; {config.model.dtype}, "
        f"micro_batch_tokens {align.micro_batch_tokens}, "
        f"checkpointing {'on' if align.gradient_checkpointing else 'off'}; {where}",
    ]


def _cost(config: Config, shape: Shape, ranks: int) -> list[str]:
    tokens = tokens_at_most(config)
    operations = flops(shape, config.align, tokens)
    total = tokens.demonstrations + tokens.pool
    hours = {name: gpu_hours(operations, peak) for name, peak in PEAK_FLOPS.items()}
    each = ", ".join(f"{hour:.1f} on {name} ({hour / ranks:.1f} h)" for name, hour in hours.items())
    return [
        f"{config.align.steps} steps, at most {total / 1e6:.1f}e6 tokens: every sequence as long as the settings allow",
        f"GPU-hours for these, at {MODEL_FLOPS_UTILISATION:.0%} of the peak: {each}",
    ]

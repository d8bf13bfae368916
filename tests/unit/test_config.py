"""Configs: unknown keys are errors, overrides are dotted, every shipped config is valid."""

from pathlib import Path

import pytest

from presafe.config import Config, Settings, load_config
from presafe.config.reference import descriptions
from presafe.config.settings import shapes_result
from presafe.config.whole import sections_of
from presafe.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"
DEMO = str(CONFIGS / "demo.yaml")


RUNS = [path for path in sorted(CONFIGS.glob("[!_]*.yaml")) if not path.name.startswith("study")]
"""All but the studies, which tests/unit/test_study.py reads."""


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_shipped_config_is_valid(path):
    load_config(str(path), [])


def test_dotted_overrides_reach_nested_values():
    config = load_config(DEMO, ["align.lora.r=16", "run.seed=7", "align.workers.num_gpus=0.5"])
    assert (config.align.lora.r, config.run.seed, config.align.workers.num_gpus) == (16, 7, 0.5)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("align.lora.rank=3", r"align\.lora\.rank: unknown key"),
        ("algin.steps=3", r"algin"),
        ("align.steps=0", r"align\.steps.*greater"),
        ("align.steps", r"needed section\.key=value"),
        ("run.name=../x", r"run\.name"),
        ("teacher.workers.environment={image: org/name}", r"teacher\.workers\.environment\.image: unknown key"),
        ("align.steps.more=1", r"'align.steps.more'|steps"),
        ("model.dtype=bfloat16 align.zero_stage=0 align.lora=null", r"zero_stage 0"),
        ("align.merge=true align.lora=null", r"merge merges an adapter"),
        ("align.merge_gate=true align.objective=sft", r"objective sft trains none"),
        ("model.path=x", r"exactly one of `path` and `build`"),
        (
            "prompts.keep_clear_of=[plain,other]",
            r"keep_clear_of of other; needed names of suites \(plain,",
        ),
        ("prompts.suites=[{name: a}]", r"found `suites` in section `prompts`; .*; move the list out of `prompts`"),
    ],
)
def test_a_wrong_override_is_named(override, message):
    with pytest.raises(UserError, match=message):
        load_config(DEMO, override.split(" ") if "{" not in override else [override])


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no file"):
        load_config(str(tmp_path / "none.yaml"), [])
    (tmp_path / "broken.yaml").write_text("run: [")
    with pytest.raises(UserError, match="not YAML"):
        load_config(str(tmp_path / "broken.yaml"), [])


def test_these_fields_say_how_it_runs_and_all_others_shape_the_result():
    found = {}
    for part in settings_of_a_run(Config):
        names = [name for name, field in part.model_fields.items() if not shapes_result(field)]
        if names:
            found[part.__name__] = names
    reading = ["workers", "rows_per_block", "batch_tokens"]
    assert found == {
        "Config": ["cluster", "attack", "analysis", "serve"],
        "Run": ["name", "storage", "tracker"],
        "Model": ["path"],
        "Prompts": ["keep_clear_of", "max_quarantined_share", "max_contaminated_share"],
        "TrainingSource": ["path", "revision", "public", "rows"],
        "Suite": ["path", "revision", "public", "rows"],
        "Wrapper": ["path", "revision"],
        "Teacher": ["workers", "model", "rows_per_block", "human_labels", "max_unscored_share", "max_thinking_share"],
        "PagedSettings": ["kv_cache_tokens", "page_size", "max_batch_tokens", "max_requests_per_batch"],
        "TransformersSettings": ["batch_size"],
        "VllmSettings": ["max_num_seqs", "tensor_parallel_size", "gpu_memory_utilization"],
        "HttpSettings": ["api_key_env", "concurrency", "requests_per_minute", "max_retries", "timeout_s"],
        "ClassifierSettings": ["model", "batch_size", "workers", "rows_per_block"],
        "LlmSettings": ["model", "workers", "rows_per_block"],
        "Signals": ["workers"],
        "Align": [
            "workers",
            "zero_stage",
            "offload",
            "gradient_checkpointing",
            "kernels",
            "checkpoint_every",
            "probe_every",
            "probe_prompts",
        ],
        "Demonstrations": ["path", "revision"],
        "Evaluate": ["workers", "rows_per_block", "human_labels", "report_samples"],
        **dict.fromkeys(("ClassifierDefence", "Probe", "SmoothLLM", "Perplexity"), reading),
        "GuardClassifier": [*reading, "model"],
        "Guard": [*reading, "model"],
    }


def settings_of_a_run(kind: type[Settings]) -> list[type[Settings]]:
    """The sections below `kind` that shape a result or are in one that does, itself first."""
    found = [kind]
    for field in kind.model_fields.values():
        for part in sections_of(field.annotation) if shapes_result(field) else []:
            found += [one for one in settings_of_a_run(part) if one not in found]
    return found


def test_how_it_runs_is_in_no_key():
    few, many = (
        load_config(DEMO, []),
        load_config(DEMO, ["teacher.workers.num_workers=9", "teacher.engine.batch_size=1"]),
    )
    assert few.results() == many.results()
    assert few.results() != load_config(DEMO, ["run.seed=1"]).results()


def test_every_field_has_a_description():
    def undescribed(model, path=""):
        for name, field in model.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                yield from undescribed(field.annotation, f"{path}{name}.")
            elif name not in descriptions(model):
                yield path + name

    assert list(undescribed(Config)) == []

"""Exports of two ranks under ZeRO-3: what is loaded from them is what was trained, whatever was trained."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import ray.cloudpickle
import torch
import torch.distributed as dist
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig

from presafe.align.export.export import export_model
from presafe.align.export.round_trip import RoundTripError
from presafe.align.module.build import build_module, head_spec
from presafe.align.module.collate import Collator
from presafe.align.module.zero import sharded_loading, start_engine, zero_config
from presafe.align.train.loss import loss_weights
from presafe.align.train.plan import batch_plan
from presafe.align.train.probe import look
from presafe.align.train.rows import ExampleRows
from presafe.align.train.step import train_step
from presafe.align.train.training import _head_card
from presafe.config import Align
from presafe.engines.card import Card, read_card
from presafe.engines.exported import load_base, load_exported, load_tokenizer
from presafe.records import Example
from presafe.thinking import ThinkFormat, think_format
from support import random_qwen2, small_align
from tiny_tokenizer import QWEN3, save_tokenizer

PADDING = 6
VARIANTS: dict[str, dict[str, Any]] = {
    "gate": {"merge": True, "merge_gate": True},
    "full": {"lora": None},
    "readout": {"head": {"kind": "readout"}, "signal_batch_size": 4},
    "layer": {"head": {"layer": 1}},
    "mean": {"objective": "safekey"},
    "corrupted": {},
}
UNTIED = ("gate", "corrupted")
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def settings(name: str) -> Align:
    return small_align(**{"zero_stage": 3, "micro_batch_tokens": 200, **VARIANTS[name]})


def examples(think: ThinkFormat) -> list[Example]:
    """Half demonstrations and half signal pool, of both paths; all different."""
    words = ["add", "two", "and", "three", "please", "kite", "lamp", "one"]
    rows = []
    for k in range(16):
        prompt = think.prompt_ids([{"role": "user", "content": " ".join(words[(k * j + j) % 8] for j in range(3 + k))}])
        completion = think.refuse_completion("no") if k % 2 else think.think_completion("two and three", "lamp")
        path = "refuse" if k % 2 else "think"
        rows.append(Example(f"p{k}", prompt, completion if k < 8 else [], path, 0.1 + 0.8 * (k % 2)))
    return rows


def export_all(loop_config: dict[str, Any]) -> None:
    """Train two steps of every variant and export it; rank 0 writes what the module in memory said."""
    torch.set_num_threads(1)
    root, rank, seen = Path(loop_config["root"]), dist.get_rank(), {}
    for name in VARIANTS:
        align, base = settings(name), str(root / ("untied" if name in UNTIED else "tied"))
        tokenizer = load_tokenizer(base)
        think = think_format(tokenizer)
        rows, collator = examples(think), Collator.of(think, tokenizer.pad_token_id)
        config = zero_config(align, "float32")
        loading = sharded_loading(config)
        module = build_module(base, "float32", align, head_spec(align, think.decision_token), seed=3)
        del loading
        optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.5)
        engine = start_engine(module, config, optimizer)
        trained = ExampleRows.of(rows)
        plan = batch_plan(trained, align, 0, collator)
        for step in range(2):
            train_step(engine, trained, plan, step, loss_weights(align, step), collator)
        validation = rows[8:]
        looks = look(engine, validation, align.micro_batch_tokens, collator)
        seen[name] = {"probabilities": [one.probability for one in looks]}
        card = Card(
            base_model=base,
            dtype="float32",
            weights="full" if align.lora is None else "adapter",
            think_format={},
            head=_head_card(align),
            threshold=0.6,
            max_over_refusal=0.01,
            refusal="no",
            config_hash="h",
            metrics={},
        )
        if name == "corrupted" and rank == 0:
            flip_a_tensor(root / "untied" / "model.safetensors")
        try:
            export_model(engine, module, card, str(root / name), validation, collator, align)
        except RoundTripError as error:
            seen[name]["error"] = str(error)
    if rank == 0:
        (root / "seen.json").write_text(json.dumps(seen))


def flip_a_tensor(file: Path) -> None:
    weights = load_file(file)
    name = "model.layers.1.mlp.down_proj.weight"
    save_file({**weights, name: -weights[name]}, file, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Path:  # noqa: ARG001
    """One Ray job exports all variants; the corrupted one has an old export to lose, and its base changes meanwhile."""
    root = tmp_path_factory.mktemp("export")
    save_bases(root)
    trainer = TorchTrainer(
        export_all,
        train_loop_config={"root": str(root)},
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(name="export", storage_path=str(root / "ray")),
    )
    trainer.fit()
    shutil.rmtree(root / "untied")
    shutil.move(root / "kept", root / "untied")
    return root


def save_bases(root: Path) -> None:
    for name, changes in {"tied": {}, "untied": {"tie_word_embeddings": False}}.items():
        tokenizer = save_tokenizer(str(root / name), QWEN3)
        rows = len(tokenizer) + (PADDING if name == "untied" else 0)
        stops = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        random_qwen2(rows, initializer_range=0.1, **stops, **changes).save_pretrained(root / name)
    shutil.copytree(root / "untied", root / "kept")
    (root / "corrupted").mkdir()
    (root / "corrupted" / "presafe.json").write_text("old")


def seen(root: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "seen.json").read_text())[name]
    return found


@pytest.mark.parametrize("name", ["gate", "full", "readout", "layer", "mean"])
def test_every_head_read_off_the_loaded_export_says_what_it_said_in_training(root, name):
    loaded = load_exported(str(root / name))
    prompts = [example.prompt for example in examples(loaded.format)[8:]]
    found = loaded.reader.probabilities(loaded.model, prompts)
    assert found == pytest.approx(seen(root, name)["probabilities"], abs=1e-5)
    assert max(found) - min(found) > (1e-5 if name == "readout" else 1e-3), "or any head would do"
    assert (loaded.head is None) == (name == "readout")


@pytest.mark.parametrize("name", ["gate", "full", "readout", "layer", "mean"])
def test_the_card_tells_the_differences_measured_at_export(root, name):
    card = read_card(str(root / name))
    wanted = {"gate": {"adapter", "merged", "merged-gate"}, "full": {"full"}}.get(name, {"adapter"})
    assert set(card.round_trip) == wanted
    for trip in card.round_trip.values():
        assert trip.prompts == 4
        assert trip.logits < 1e-5 < trip.largest_logit
        assert trip.head < 1e-5
    readme = (root / name / "README.md").read_text()
    assert all(f"| `{folder}/` | 4 |" in readme for folder in wanted)


def test_all_weights_are_exported_with_what_makes_them_a_model(root):
    whole = load_base(str(root / "full" / "full"), "float32")
    base = load_base(str(root / "tied"), "float32")
    pairs = zip(whole.model.named_parameters(), base.model.named_parameters(), strict=True)
    moved = [name for (name, new), (_, old) in pairs if not torch.equal(new, old)]
    assert len(moved) == len(list(base.model.parameters()))
    assert whole.format.empty_block == base.format.empty_block
    assert not (root / "full" / "adapter").exists()


def test_an_export_that_does_not_answer_as_the_trained_model_raises_and_keeps_the_old_one(root):
    assert "found adapter/ that differs" in seen(root, "corrupted")["error"]
    assert [path.name for path in (root / "corrupted").iterdir()] == ["presafe.json"]
    assert (root / "corrupted" / "presafe.json").read_text() == "old"
    assert not list(root.glob("*.partial"))


def first_logits(model: Any, prompt: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=torch.tensor([prompt])).logits[0, -1]
    return logits


def tokens(model: Any, prompt: list[int], **changes: Any) -> list[list[int]]:
    """60 new tokens of every sequence, which no end of sequence cuts; sampled ones always with the same seed."""
    torch.manual_seed(0)
    config = GenerationConfig(max_new_tokens=60, min_new_tokens=60, **changes)
    output: torch.Tensor = model.generate(torch.tensor([prompt]), generation_config=config)
    return output[:, len(prompt) :].tolist()


def test_the_vocabulary_row_is_the_head_and_is_never_sampled(root):
    card = read_card(str(root / "gate" / "merged-gate"))
    row, aligned = card.vocabulary_row, load_exported(str(root / "gate"))
    gated, merged = (load_base(str(root / "gate" / name), "float32") for name in ("merged-gate", "merged"))
    assert row.token_id >= len(gated.tokenizer)
    prompts = [example.prompt for example in examples(gated.format)[8:]]
    for prompt, probability in zip(prompts, aligned.reader.probabilities(aligned.model, prompts), strict=True):
        logits = first_logits(gated.model, prompt)
        assert torch.sigmoid(logits[row.token_id] + row.bias).item() == pytest.approx(probability, abs=1e-5)
        assert (logits[row.token_id].item() >= row.logit_threshold) == (probability >= card.threshold)
        others = torch.arange(len(logits)) != row.token_id
        assert torch.allclose(logits[others], first_logits(merged.model, prompt)[others], atol=1e-6)
    prompt, wild = prompts[0], {"do_sample": True, "temperature": 2.0, "top_k": 0, "num_return_sequences": 32}
    assert tokens(gated.model, prompt, do_sample=False) == tokens(merged.model, prompt, do_sample=False)
    sampled = tokens(gated.model, prompt, **wild)
    assert sampled == tokens(merged.model, prompt, **wild, suppress_tokens=row.suppressed)
    assert not any(row.token_id in sequence for sequence in sampled)
    gated.model.generation_config.suppress_tokens = None
    assert any(row.token_id in sequence for sequence in tokens(gated.model, prompt, **wild)), "or nothing was at stake"

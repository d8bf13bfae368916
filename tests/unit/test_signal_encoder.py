"""Which encoders the classifier takes."""

from pathlib import Path

import pytest

from presafe.config import BuiltEncoder
from presafe.errors import UserError
from presafe.signals.classifier import EncoderSpec, check_encoder
from presafe.signals.stage import chosen_encoder
from run_directory import config, save_model


def test_an_encoder_that_is_none_is_one_sentence():
    with pytest.raises(UserError, match="no loadable encoder at nobody/nothing"):
        check_encoder(EncoderSpec("nobody/nothing", "unused", 64))


def test_an_encoder_that_reads_less_than_it_is_given_is_one_sentence(tmp_path):
    save_model(tmp_path)
    folder = str(tmp_path / "base")
    check_encoder(EncoderSpec(folder, folder, 64))
    with pytest.raises(UserError, match=r"found signals\.max_tokens 999999; needed at most"):
        check_encoder(EncoderSpec(folder, folder, 999_999))


def with_encoder(root: Path, encoder: object) -> EncoderSpec:
    settings = config(root)
    values = settings.model_dump() | {"signals": {"encoder": encoder, "max_tokens": 64}}
    return chosen_encoder(type(settings).model_validate(values))


def test_the_encoder_is_the_models_own_a_named_one_or_one_that_a_function_builds(tmp_path):
    save_model(tmp_path)
    own = str(tmp_path / "base")
    assert with_encoder(tmp_path, "model") == EncoderSpec(own, own, 64)
    assert with_encoder(tmp_path, "some/encoder") == EncoderSpec("some/encoder", own, 64)
    options = {"prompts": 64, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    spec = with_encoder(tmp_path, {"build": "presafe.organism:build_encoder", "build_options": options})
    assert Path(str(spec.encoder)).parent == tmp_path / "models"
    check_encoder(spec)


def test_a_function_that_builds_no_encoder_is_named(tmp_path):
    save_model(tmp_path)
    with pytest.raises(UserError, match=r"presafe\.organism:nothing"):
        with_encoder(tmp_path, BuiltEncoder(build="presafe.organism:nothing"))

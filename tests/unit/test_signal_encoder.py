"""Which encoders the classifier takes."""

import pytest

from presafe.errors import UserError
from presafe.signals.classifier import EncoderSpec, check_encoder
from run_directory import save_model


def test_an_encoder_that_is_none_is_one_sentence():
    with pytest.raises(UserError, match="no loadable encoder at nobody/nothing"):
        check_encoder(EncoderSpec("nobody/nothing", "unused", 64))


def test_an_encoder_that_reads_less_than_it_is_given_is_one_sentence(tmp_path):
    save_model(tmp_path)
    folder = str(tmp_path / "base")
    check_encoder(EncoderSpec(folder, folder, 64))
    with pytest.raises(UserError, match=r"found signals\.max_tokens 999999; needed at most"):
        check_encoder(EncoderSpec(folder, folder, 999_999))

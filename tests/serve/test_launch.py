"""Launching: what is wrong is said before anything starts, and the deployment file is one."""

import socket
from pathlib import Path

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from presafe.errors import UserError
from serve.app import Endpoint, ServeArgs, build
from serve.launch import launch
from tiny_reasoner import TinyExport

CONFIG = Path(__file__).parents[2] / "serve" / "config.yaml"


def test_a_taken_port_is_a_user_error(tiny_export: TinyExport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"found the address 127.0.0.1:{port}.*needed a free one.*serve.port"):
            launch(ServeArgs(model=tiny_export.folder), "127.0.0.1", port)


def test_a_missing_model_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no exported model"):
        build({"model": str(tmp_path)})


def test_an_unknown_argument_is_an_error(tiny_export: TinyExport) -> None:
    with pytest.raises(ValueError, match="treshold"):
        build({"model": tiny_export.folder, "treshold": 0.1})


def test_the_deployment_file_is_valid() -> None:
    config = ServeDeploySchema.model_validate(yaml.safe_load(CONFIG.read_text()))
    application = config.applications[0]
    assert application.import_path == "serve.app:build"
    assert ServeArgs.model_validate(application.args).gate == "off"
    assert [deployment.name for deployment in application.deployments] == [Endpoint.name]

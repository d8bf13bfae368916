"""What a cluster gets: its environment and token, and a small upload."""

import zipfile
from pathlib import Path

import yaml
from ray._private.runtime_env.packaging import create_package

from presafe.runtime import SERVE_ENV

ROOT = Path(__file__).parents[2]


def cluster() -> dict:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def test_every_node_has_the_environment_of_serves_proxies():
    options = cluster()["docker"]["run_options"]
    assert {f"--env {name}={value}" for name, value in SERVE_ENV.items()} <= set(options)


def test_every_node_asks_for_the_token_that_the_user_has():
    assert "--env RAY_AUTH_MODE=token" in cluster()["docker"]["run_options"]
    assert cluster()["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"


def test_a_job_upload_is_small_and_holds_what_a_job_needs(tmp_path):
    package = tmp_path / "package.zip"
    create_package(str(ROOT), package, include_gitignore=True)
    names = set(zipfile.ZipFile(package).namelist())
    assert {"presafe/cli/run.py", "jobs/teacher.py", "serve/app.py", "configs/demo.yaml"} <= names
    assert not {name.split("/")[0] for name in names} & {".venv", ".git", "runs", "tests"}
    assert package.stat().st_size < 2_000_000

"""Section `serve` of a run's config reaches `presafe serve RUN`, the Serve application and `presafe promote`."""

from pathlib import Path

import pytest
import yaml

from presafe import storage
from presafe.config import load_serve
from presafe.standing import keep
from run_directory import config
from serve.arguments import application_args, model_of, serve_section
from serve.deployment.promote import with_section

FILE = yaml.safe_load((Path(__file__).parents[2] / "serve" / "config.yaml").read_text())
SECTION = {"gate": "shadow", "port": 8123, "max_new_tokens": 77, "workers": {"num_gpus": 2, "pool": "serve"}}


@pytest.fixture
def run(tmp_path: Path) -> str:
    settings = config(tmp_path)
    keep(settings.model_validate(settings.model_dump(mode="json") | {"serve": SECTION}))
    return settings.run_directory.root


def test_a_run_is_served_as_its_config_says_and_settings_change_that(run):
    chosen = load_serve(["gate=off", "workers.num_cpus=3"], serve_section(run))
    assert (chosen.gate, chosen.port, chosen.max_new_tokens) == ("off", 8123, 77)
    assert (chosen.workers.num_cpus, chosen.workers.num_gpus, chosen.workers.pool) == (3, 2, "serve")


def test_a_model_is_no_run_even_where_it_has_a_file_of_that_name(tmp_path, run):
    storage.write_json(str(tmp_path / "config.json"), {"model_type": "qwen2", "serve": {}})
    assert serve_section(str(tmp_path)) is None
    assert serve_section(str(tmp_path / "none")) is None
    assert model_of(f"{run}/") == f"{run}/model"


def test_the_application_takes_a_run_in_place_of_its_model(run):
    args = application_args({"run": run, "served_name": "mine", "gate": "on"})
    assert (args.model, args.served_name, args.gate, args.max_new_tokens) == (f"{run}/model", "mine", "on", 77)
    with pytest.raises(ValueError, match="found no run directory at run=/nowhere"):
        application_args({"run": "/nowhere"})


def test_promote_takes_the_section_before_the_packaged_file_and_behind_the_users_own(run):
    [packaged] = with_section(FILE, run, packaged=True)["applications"]
    assert packaged["args"]["gate"] == "shadow"
    assert packaged["args"]["autoscaling"] == FILE["applications"][0]["args"]["autoscaling"]
    assert packaged["args"]["workers"]["pool"] == "serve"
    [own] = with_section(FILE, run, packaged=False)["applications"]
    assert own["args"]["gate"] == "off"
    assert own["args"]["workers"] == FILE["applications"][0]["args"]["workers"]
    assert own["args"]["max_new_tokens"] == 8192
    assert "port" not in own["args"]

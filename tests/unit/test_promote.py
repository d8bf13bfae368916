"""`presafe promote` up to the cluster: the report must be of the model that lies there, and the policy must hold."""

import json
from pathlib import Path

import pytest
import yaml

from evaluated_run import GOOD, write_run
from presafe import storage
from presafe.cli import main
from presafe.engines.card import Card, write_card
from presafe.errors import UserError
from presafe.stages import RunDirectory
from serve.deployment.promote import MODEL_VERSION, fill, read_report
from serve.deployment.rollout import standing, with_application

CONFIG = yaml.safe_load((Path(__file__).parents[2] / "serve" / "config.yaml").read_text())


def export(root: Path) -> str:
    card = Card(
        base_model="organisation/base",
        dtype="float32",
        think_format={},
        threshold=0.5,
        max_over_refusal=0.01,
        refusal="no",
        config_hash="h",
        metrics={},
    )
    write_card(str(root / "export"), card)
    return str(root / "export")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("good")
    return write_run(root, export(root))


def promote(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["promote", *arguments])
    return ended.value.code


def test_a_run_that_meets_the_policy_would_be_deployed(run, capsys):
    assert promote(run, "--dry-run") == 0
    printed = capsys.readouterr().out
    assert printed.count("pass") == 3
    assert "--dry-run deploys nothing" in printed


def test_the_line_that_failed_is_named(tmp_path, capsys):
    failing = write_run(tmp_path, export(tmp_path), {**GOOD, ("lookalikes", "aligned"): 0.2})
    assert promote(failing) == 1
    printed = capsys.readouterr().out
    assert printed.count("FAIL") == 1
    cell = "over_refusal_rate of lookalikes is 20.00 [15.05, 26.09] % of n = 200"
    assert f"1 of 3 lines of the policy failed: {cell}, at most 5 % allowed" in printed


def test_too_few_or_unscored_answers_never_pass(tmp_path, capsys):
    few = write_run(tmp_path / "few", export(tmp_path), prompts=99)
    assert promote(few) == 1
    assert "99 scored answers, 100 needed" in capsys.readouterr().out
    unscored = write_run(tmp_path / "unscored", export(tmp_path), unscored=50)
    assert promote(unscored) == 1
    assert "no claim: 50 of 200 answers unscored" in capsys.readouterr().out


def test_a_run_without_a_report_is_the_users_error(tmp_path, capsys):
    assert promote(str(tmp_path), "--dry-run") == 2
    assert "no finished stage 'evaluate'" in capsys.readouterr().err


@pytest.mark.parametrize("spoil", ["weights", "threshold"])
def test_a_report_of_another_model_is_refused(tmp_path, spoil):
    run = RunDirectory(write_run(tmp_path, export(tmp_path)))
    assert read_report(run)
    model = Path(run.folder("model"))
    if spoil == "weights":
        (model / "safety_head.safetensors").write_bytes(b"trained again")
    else:
        card = json.loads((model / "presafe.json").read_text())
        (model / "presafe.json").write_text(json.dumps({**card, "threshold": 0.4}))
    with pytest.raises(UserError, match="a report of another model"):
        read_report(run)


def test_the_application_gets_the_model_its_version_and_the_policys_gate(run):
    filled = fill(CONFIG, RunDirectory(run), "on", ["workers.num_cpus=2", "served_name=mine"])
    (application,) = filled["applications"]
    args = application["args"]
    assert (args["model"], args["gate"], args["served_name"]) == (f"{run}/model", "on", "mine")
    assert args["workers"] == {**CONFIG["applications"][0]["args"]["workers"], "num_cpus": 2}
    assert CONFIG["applications"][0]["args"]["workers"]["num_cpus"] == 4
    assert len(application["runtime_env"]["env_vars"][MODEL_VERSION]) == 16
    assert filled["http_options"] == CONFIG["http_options"]


@pytest.mark.parametrize("override", ["gate=on", "model=/elsewhere", "treshold=0.1"])
def test_no_override_replaces_what_was_judged(run, override):
    with pytest.raises(UserError):
        fill(CONFIG, RunDirectory(run), "off", [override])


@pytest.mark.parametrize("override", ["threshold=0.9", "gate_action=cot_off"])
def test_a_gate_is_the_one_that_was_judged(run, override):
    with pytest.raises(UserError, match="which is what the policy judges"):
        fill(CONFIG, RunDirectory(run), "on", [override])
    fill(CONFIG, RunDirectory(run), "off", [override])


@pytest.mark.parametrize("decision", ["drawn", None])
def test_a_report_on_drawn_decisions_is_none_of_what_is_served(tmp_path, decision):
    run = RunDirectory(write_run(tmp_path, export(tmp_path)))
    path = f"{run.folder('evaluate')}/report.json"
    report = storage.read_json(path)
    assert read_report(run)
    others = {name: value for name, value in report.items() if name != "decision"}
    storage.write_json(path, others | ({"decision": decision} if decision else {}))
    with pytest.raises(UserError, match="decisions that were drawn"):
        read_report(run)


def test_a_config_of_two_applications_is_the_users_error(run):
    two = {**CONFIG, "applications": [CONFIG["applications"][0], {"name": "b", "import_path": "b:c"}]}
    with pytest.raises(UserError, match="needed one application"):
        fill(two, RunDirectory(run), "off", [])


def cluster(**sources: str) -> dict[str, object]:
    """What Serve says of a cluster with applications from these sources."""
    applications = {
        name: {"source": source, "deployed_app_config": {"name": name} if source == "declarative" else None}
        for name, source in sources.items()
    }
    return {"applications": applications, "http_options": {"port": 9000}, "proxy_location": "HeadOnly"}


def test_other_applications_and_the_proxies_stay():
    body = with_application(cluster(other="declarative", presafe="declarative", running="imperative"), CONFIG)
    assert [one["name"] for one in body["applications"]] == ["other", "presafe"]
    assert body["applications"][1]["args"] == CONFIG["applications"][0]["args"]
    assert body["applications"][1]["logging_config"] == CONFIG["logging_config"]
    assert "logging_config" not in body
    assert body["http_options"] == {"port": 9000}


def test_on_an_empty_cluster_the_file_decides():
    body = with_application({"applications": {}, "controller_info": {}, "target_capacity": None}, CONFIG)
    assert body == CONFIG


def test_what_serve_run_started_is_not_taken_over():
    with pytest.raises(UserError, match=r"serve\.run"):
        with_application(cluster(presafe="imperative"), CONFIG)


def test_the_way_back_holds_what_stood_before():
    names = [one["name"] for one in standing(cluster(other="declarative", running="imperative"))["applications"]]
    assert names == ["other"]

"""`presafe VERB`: every stage by itself, all of them, and the endpoint. The same functions as the files in `jobs/`."""

import argparse
import logging
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

import yaml

from presafe.config import STAGES, Config, load_config, load_serve
from presafe.errors import UserError

StageFunction = Callable[..., None]

AGAIN = {"export": ("align", ("export",)), "grade": ("evaluate", ("grade", "measure", "report"))}
"""Verbs that make parts of a finished run anew: the stage and the parts."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script. Exits with code 2 and one message where the user gave something wrong.

    Ray and torch take seconds to import, so that no module is imported before its verb is given.
    """
    parsed = command_line().parse_args(arguments)
    with _user_errors():
        if parsed.verb == "serve":
            settings = load_serve(parsed.settings)
            import_module("serve.checks").check(parsed.model, settings)  # in a second: what is behind it takes longer
            import_module("serve.command").serve_model(parsed.model, settings)
            return
        if parsed.verb == "inspect":
            import_module("presafe.align.inspection").run_inspect(parsed.model)
            return
        if parsed.verb == "init":
            write_first_config(
                parsed.model,
                {"harmful": parsed.harmful, "benign": parsed.benign},
                {"harmful": parsed.harmful_column, "benign": parsed.benign_column},
                parsed.output,
            )
            return
        if parsed.verb == "status":
            import_module("presafe.standing").print_status(parsed.run, as_json=parsed.json)
            return
        if parsed.verb in AGAIN:
            with import_module("presafe.standing").kept(parsed.run, parsed.overrides) as config:
                run_one(config, AGAIN[parsed.verb][0], redo=AGAIN[parsed.verb][1])
            return
        if parsed.verb == "watch":
            import_module("presafe.watch").run_watch(parsed.run, png=parsed.png, follow=parsed.follow)
            return
        if parsed.verb == "key":
            options = {name: value for name, value in vars(parsed).items() if name != "verb"}
            import_module("serve.key_command").run_key(**options)
            return
        if parsed.verb == "promote":
            code = import_module("serve.promote").run_promote(
                parsed.run,
                parsed.settings,
                policy=parsed.policy,
                config=parsed.config,
                address=parsed.address,
                dry_run=parsed.dry_run,
                timeout_s=parsed.timeout,
            )
            raise SystemExit(code)
        config = load_config(parsed.config, parsed.overrides)
        import_module("presafe.runtime").check_storage(config)
        if parsed.verb == "align" and parsed.plan:
            print(import_module("presafe.align.preview").plan_text(config, parsed.gpus))
        elif parsed.dry_run:
            print(describe(config))
        elif parsed.verb == "run":
            run_pipeline(config, redo=parsed.redo, force=parsed.force)
        else:
            run_one(config, parsed.verb, redo=every_part(config, parsed.verb, parsed.redo), force=parsed.force)


def command_line() -> argparse.ArgumentParser:
    """Every verb with its arguments."""
    parser = argparse.ArgumentParser(prog="presafe", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    parsers = {stage: verbs.add_parser(stage, help=f"run stage {stage}") for stage in STAGES}
    for stage_parser in parsers.values():
        _add_config_arguments(stage_parser)
    parsers["align"].add_argument("--plan", action="store_true", help="print what ZeRO and offload choices would need")
    parsers["align"].add_argument("--gpus", type=int, metavar="N", help="with --plan: for N GPUs")
    _add_config_arguments(verbs.add_parser("run", help="run all stages and print the result"))
    serve = verbs.add_parser("serve", help="serve an exported model")
    serve.add_argument("model", help="model/ folder of a run")
    serve.add_argument("settings", nargs="*", metavar="key=value", help="settings of the config's section `serve`")
    inspect = verbs.add_parser("inspect", help="print the think format, LoRA targets and recipe of a model")
    inspect.add_argument("model", help="model folder, hub name, or folder of a tokenizer")
    init = verbs.add_parser("init", help="write a first config for a model and two files of prompts")
    init.add_argument("model", help="model folder or hub name")
    for kind, use in (("harmful", "refuse"), ("benign", "answer")):
        init.add_argument(f"--{kind}", required=True, metavar="FILE", help=f"prompts to {use}")
        init.add_argument(f"--{kind}-column", metavar="NAME", help="its column that holds them; by default guessed")
    init.add_argument("--output", default="config.yaml", metavar="FILE", help="by default config.yaml; must be new")
    status = verbs.add_parser("status", help="say how each part of a run stands, and who is at work")
    status.add_argument("run", help="run directory, STORAGE/NAME, local or remote")
    status.add_argument("--json", action="store_true", help="for programs")
    for verb, (stage, parts) in AGAIN.items():
        again = verbs.add_parser(verb, help=f"of a run's stage {stage}, make {', '.join(parts)} anew")
        again.add_argument("run", help="run directory, STORAGE/NAME, local or remote")
        again.add_argument("overrides", nargs="*", metavar="section.key=value", help="what is to be different")
    watch = verbs.add_parser("watch", help="draw the training curves of a run, as RUN/align/watch.html")
    watch.add_argument("run", help="run directory, STORAGE/NAME, local or remote")
    watch.add_argument("--png", metavar="FILE", help="draw them to this file, too")
    watch.add_argument("--follow", action="store_true", help="draw again every few seconds until the run ends")
    _add_promote_arguments(verbs.add_parser("promote", help="deploy a run's model if its report meets a policy"))
    _add_key_arguments(verbs.add_parser("key", help="make, list and revoke API keys of the endpoint"))
    return parser


def write_first_config(model: str, files: dict[str, str], columns: dict[str, str | None], output: str) -> None:
    """Look at the files, by kind of prompt, and at the model, then write the config."""
    new_config = import_module("presafe.new_config")
    new_config.check_absent(output)
    look_at = import_module("presafe.prompts.first_look").look_at
    looks = {kind: look_at(file, kind, columns[kind]) for kind, file in files.items()}
    dtype, align = import_module("presafe.align.placement").placed(model)
    new_config.write_config(output, model, files, looks, dtype, align)


def stage_job(stage: str) -> None:
    """Main function of a job file: the stage with the command line's config."""
    main([stage, *sys.argv[1:]])


def run_one(config: Config, stage: str, *, redo: Collection[str] = (), force: bool = False) -> None:
    """Run one stage, whose parts of the names `redo` may be made anew, and print where its result is."""
    function: StageFunction = getattr(import_module(f"presafe.{stage}"), f"run_{stage}")
    with import_module("presafe.writer").sole_writer(config.run_directory.root):
        import_module("presafe.standing").keep(config)
        function(config, redo=redo, force=force)
    print(f"{stage}: {config.run_directory.folder(stage)}")


def every_part(config: Config, stage: str, redo: bool) -> list[str]:
    """The names of a stage's parts, or none."""
    return [part.name for part in import_module(f"presafe.{stage}.stage").parts(config)] if redo else []


def run_pipeline(config: Config, *, redo: bool, force: bool) -> None:
    """Run every stage in this process's cluster, then print the result.

    What would be made anew is told first. The encoder of stage `signals`, by default one of a hub, is looked at before
    the teacher spends hours.
    """
    if not force:
        import_module("presafe.standing").check_stale(config, redo=redo)
    if force or not config.run_directory.finished("signals"):
        import_module("presafe.signals.classifier").check_named_encoder(config.signals)
    with import_module("presafe.writer").sole_writer(config.run_directory.root):
        for stage in STAGES:
            run_one(config, stage, redo=every_part(config, stage, redo), force=force)
    import_module("presafe.evaluate.summary").print_summary(config)


def describe(config: Config) -> str:
    """The resolved config as YAML, and what each stage will ask of the cluster."""
    lines = [yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), "# what the run asks of the cluster"]
    for demand in import_module("presafe.runtime").demands(config):
        placement, total = demand.placement, demand.total
        lines.append(
            f"# {demand.stage:9} {demand.num_workers} worker(s) of {placement.num_cpus:g} CPU and "
            f"{placement.num_gpus:g} GPU: {total['CPU']:g} CPU and {total['GPU']:g} GPU at once"
        )
    return "\n".join(lines)


def _add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, help="YAML file, see configs/")
    parser.add_argument("--redo", action="store_true", help="make anew what other settings or files have made")
    parser.add_argument("--force", action="store_true", help="throw all old output of the stage away")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and the cluster's load")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="override values of the config")


def _add_promote_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="run directory, STORAGE/NAME, that every node can reach")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="arguments of the application")
    parser.add_argument("--policy", metavar="FILE", help="what the report must show; by default serve/policy.yaml")
    parser.add_argument("--config", metavar="FILE", help="Serve config file; by default serve/config.yaml")
    parser.add_argument("--address", default="http://localhost:8265", help="dashboard of the cluster")
    parser.add_argument("--dry-run", action="store_true", help="judge, and deploy nothing")
    parser.add_argument("--timeout", type=float, default=1800, metavar="SECONDS", help="how long to wait for RUNNING")


def _add_key_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments named as `run_key` names them."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="make a key and print it, this once")
    revoke = actions.add_parser("revoke", help="end a key")
    listing = actions.add_parser("list", help="print ids and limits")
    for action in (add, revoke, listing):
        action.add_argument("path", metavar="FILE", help="key file, the endpoint's access.keys")
    for action in (add, revoke):
        action.add_argument("key_id", metavar="ID", help="who has the key; not secret")
    add.add_argument("--requests-per-minute", type=int, metavar="N", help="in any 60 seconds, over all replicas")
    add.add_argument("--concurrency", type=int, metavar="N", help="at once, over all replicas")


@contextmanager
def _user_errors() -> Iterator[None]:
    """Turn a UserError, also one raised inside a Ray worker, into its message and exit code 2."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("presafe").setLevel(logging.INFO)
    for library in ("DeepSpeed", "ray.data"):  # they set their own levels when they are imported
        logging.getLogger(library).addFilter(lambda record: record.levelno > logging.WARNING)
    try:
        yield
    except UserError as error:
        print(f"presafe: {getattr(error, 'cause', error)}", file=sys.stderr)
        raise SystemExit(2) from None

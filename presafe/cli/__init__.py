"""`presafe VERB`: every stage by itself, all of them, and the endpoint; a file a verb.

Ray and torch take seconds to import, so that a verb's file is imported when the verb is given, and what is heavy when
the verb runs.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

import click

from presafe.config import STAGES
from presafe.errors import UserError

VERBS = {
    **{stage: ("stages", f"run stage {stage}") for stage in STAGES},
    "run": ("run", "run all stages and print the result"),
    "submit": ("submit", "submit a stage, or `pipeline`, as a job of a Ray cluster"),
    "logs": ("logs", "print and follow the log of a run's job"),
    "cancel": ("cancel", "stop the jobs of a run"),
    "serve": ("serve", "serve an exported model"),
    "inspect": ("inspect", "print the think format, LoRA targets and recipe of a model"),
    "init": ("init", "write a first config for a model and two files of prompts"),
    "suites": ("suites", "list the public suites that a config may name"),
    "status": ("status", "say how each part of a run stands, and who is at work"),
    "attack": ("attack", "search for what breaks the decisions of a run's model, within a budget"),
    "analyze": ("analyze", "say what an alignment changed: weights, layers, who agrees, what answers cost"),
    "compare": ("compare", "print what several runs measured, side by side and on the same prompts"),
    "study": ("study", "run arms, seeds and bases of a study, and report what they differ in"),
    "export": ("again", "export a run's model anew"),
    "grade": ("again", "grade, measure and report a run's answers anew"),
    "watch": ("watch", "draw the training curves of a run, as RUN/align/watch.html"),
    "promote": ("promote", "deploy a run's model if its report meets a policy"),
    "doctor": ("doctor", "look for what is wrong with this machine or a cluster"),
    "key": ("key", "make, list and revoke API keys of the endpoint"),
}
"""The file of each verb, whose function has the verb's name, and what it does."""


class Verbs(click.Group):
    """Imports the file of a verb when it is given."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, _: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(import_module(f"presafe.cli.{VERBS[cmd_name][0]}"), cmd_name)
        return command

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, told) for verb, (_, told) in VERBS.items()])


@click.group("presafe", cls=Verbs, subcommand_metavar="VERB ...", options_metavar="")
def verbs() -> None:
    """Teach a reasoning model to decide before it thinks whether to answer, and serve it that way."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script. Exits with code 2 and one line where the user gave something wrong."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    with told_in_a_line(), verbs.make_context("presafe", given) as context:
        verbs.invoke(context)


def stage_job(stage: str) -> None:
    """Main function of a job file: the stage with the command line's config."""
    main([stage, *sys.argv[1:]])


@contextmanager
def told_in_a_line() -> Iterator[None]:
    """A UserError, also one raised inside a Ray worker, and a wrong command line: the message, and exit code 2."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("presafe").setLevel(logging.INFO)
    for library in ("DeepSpeed", "ray.data"):  # they set their own levels when they are imported
        logging.getLogger(library).addFilter(lambda record: record.levelno > logging.WARNING)
    try:
        yield
    except UserError as error:
        print(f"presafe: {getattr(error, 'cause', error)}", file=sys.stderr)
        raise SystemExit(2) from None
    except click.exceptions.Exit as ended:  # behind --help
        raise SystemExit(ended.exit_code) from None
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        raise SystemExit(2) from None
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "presafe"
        print(f"presafe: {error.format_message()} ({command} --help tells what there is)", file=sys.stderr)
        raise SystemExit(2) from None

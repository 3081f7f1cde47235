"""`wait`, `pause`, `cancel`, `kill`, `delete`: the life of an experiment that runs elsewhere."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from mnist_trials.cli import lookup
from mnist_trials.cli.command import Command, Invocation
from mnist_trials.cli.report import Standing, conclude, hint
from mnist_trials.errors import UsageError

if TYPE_CHECKING:
    from mnist_trials.experiment.api import Command as Request

_GROUP = "Run"

_ASKED = {
    "pause": "to save every trial's state and pause",
    "cancel": "to save every trial's state and end it",
    "kill": "to end it at once",
}


def _wait(call: Invocation) -> int:
    from mnist_trials.experiment import api

    experiment_id = call.arguments.experiment
    api.wait(experiment_id, home=call.home)
    with lookup.reading(call) as reader:
        standing = Standing.read(reader, experiment_id)
    if not standing.experiment.state.ended:
        call.screen.warn(f"nobody runs experiment {experiment_id}: `{hint(call, f'activate {experiment_id}')}`")
    return conclude(call, standing)


def _request(command: Request) -> Callable[[Invocation], int]:
    def run(call: Invocation) -> int:
        from mnist_trials.experiment import api

        experiment_id = call.arguments.experiment
        api.request(experiment_id, command, home=call.home)
        with lookup.reading(call) as reader:
            experiment = reader.experiment(experiment_id)
        running = api.is_alive(experiment_id, home=call.home)
        if call.screen.json:
            call.screen.document({"experiment_id": experiment_id, "name": experiment.name, "state": experiment.state})
        if running:
            call.screen.say(f"Asked the controller of experiment {experiment_id} {_ASKED[command]}.")
            call.screen.say(f"`{hint(call, f'wait {experiment_id}')}` waits until it has.")
        else:
            call.screen.say(f"Experiment {experiment_id} is {experiment.state}.")
        return 0

    return run


def _delete(call: Invocation) -> int:
    from mnist_trials.experiment import api

    experiment_id = call.arguments.experiment
    with lookup.reading(call) as reader:
        experiment = reader.experiment(experiment_id)
        checkpoints = [row for row in reader.checkpoints(experiment_id) if row.state != "DELETED"]
    what = f"experiment {experiment_id} ({experiment.name}, {experiment.state}) with {len(checkpoints)} checkpoints"
    if not call.arguments.yes and not _confirmed(what):
        raise UsageError("nothing was deleted")
    api.delete(experiment_id, home=call.home)
    if call.screen.json:
        call.screen.document({"experiment_id": experiment_id, "deleted": True})
    call.screen.say(f"Deleted {what}.")
    return 0


def _confirmed(what: str) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(f"to delete {what}, say so with --yes (there is no terminal to ask on)")
    print(f"Delete {what}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _delete_arguments(parser: argparse.ArgumentParser) -> None:
    lookup.add_experiment(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _requesting(name: Request, summary: str, description: str = "") -> Command:
    return Command(
        name=name,
        group=_GROUP,
        summary=summary,
        description=description,
        run=_request(name),
        configure=lookup.add_experiment,
    )


COMMANDS = (
    Command(
        name="wait",
        group=_GROUP,
        summary="wait until an experiment has ended; the exit status is that of `create`",
        run=_wait,
        configure=lookup.add_experiment,
    ),
    _requesting("pause", "save every trial's state and stop; `activate` goes on"),
    _requesting("cancel", "save every trial's state and end the experiment for good"),
    _requesting("kill", "end the experiment at once; what was trained since the last checkpoint is lost"),
    Command(
        name="delete",
        group=_GROUP,
        summary="remove an experiment with its logs and checkpoints",
        run=_delete,
        configure=_delete_arguments,
    ),
)

"""`evaluate`: the validation or test set on a checkpoint."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from typing_extensions import override

from mnist_trials.cli import lookup
from mnist_trials.cli.checkpoint_lookup import WHICH, Found, fetched, found
from mnist_trials.cli.command import Command, Invocation
from mnist_trials.cli.failures import tell_trial
from mnist_trials.cli.screen import ATTENTION, metrics_text
from mnist_trials.errors import MnistTrialsError, UsageError
from mnist_trials.events import DatasetChosen, Event, Notice, StopRequest, finite
from mnist_trials.plugin.launcher import Channel


@final
class _Said(Channel):
    """What a trial says while it is evaluated."""

    def __init__(self) -> None:
        self.dataset = ""
        self.lines: list[str] = []

    @override
    def emit(self, event: Event) -> None:
        match event:
            case DatasetChosen():
                self.dataset = event.dataset
                start = f"{ATTENTION}: " if event.fallback else ""
                self.lines.append(f"{start}data: {event.dataset}, {event.detail}")
            case Notice():
                self.lines.append(f"notice: {event.message}")

    @override
    def stop_requested(self) -> StopRequest | None:
        return None


def _evaluate(call: Invocation) -> int:
    from mnist_trials.checkpoint import read_manifest
    from mnist_trials.worker.failure import describe

    with _asked_for(call) as checkpoint:
        manifest = read_manifest(checkpoint.folder)
        said = _Said()
        try:
            with call.screen.reserved():
                metrics = _evaluated(call, checkpoint, said)
        except MnistTrialsError:
            raise
        except (Exception, SystemExit) as error:  # the user's own code
            return tell_trial(describe(error, manifest.batches), "the trial fails", call.screen, 1)
    trial = f"{manifest.experiment_id}.{manifest.trial_id}"
    if call.screen.json:
        call.screen.document(
            {
                "checkpoint": checkpoint.uuid,
                "experiment_id": manifest.experiment_id,
                "trial_id": manifest.trial_id,
                "batches": manifest.batches,
                "epochs": manifest.epochs,
                "split": call.arguments.split,
                "dataset": said.dataset,
                "metrics": metrics,
            }
        )
    for line in said.lines:
        call.screen.say(line)
    on = " on the test data" if call.arguments.split == "test" else ""
    call.screen.say(f"checkpoint {checkpoint.uuid} of trial {trial} at batch {manifest.batches}{on}:")
    call.screen.say(f"  {metrics_text(finite(metrics))}")
    return 0


def _evaluated(call: Invocation, checkpoint: Found, said: _Said) -> dict[str, float]:
    from mnist_trials.config import PluginChoice
    from mnist_trials.experiment.slots import AUTO, resolve_backend
    from mnist_trials.plugin import get_plugins
    from mnist_trials.training.evaluation import evaluate
    from mnist_trials.training.loading import load_trial

    name, _ = resolve_backend(get_plugins(), PluginChoice(AUTO))
    trial = load_trial(checkpoint.folder, backend=name, data_root=checkpoint.data_root, channel=said)
    return evaluate(trial, trial.context, call.arguments.split)


@contextmanager
def _asked_for(call: Invocation) -> Iterator[Found]:
    """The checkpoint that `evaluate` was asked for by its name or by its experiment."""
    given = call.arguments
    if (given.checkpoint is None) == (given.experiment is None):
        raise UsageError("which checkpoint? Give CHECKPOINT, or --experiment EXP with --best or --latest")
    if given.checkpoint is not None:
        if given.best or given.latest:
            raise UsageError("--best and --latest choose among the checkpoints of an --experiment")
        with found(call, given.checkpoint) as checkpoint:
            yield checkpoint
        return
    with lookup.reading(call) as reader:
        summary = reader.summary(given.experiment)
        rows = [row for row in reader.checkpoints(given.experiment) if row.state == "COMPLETED"]
    if not rows:
        raise UsageError(f"experiment {given.experiment} has no checkpoint")
    best = summary["best"]["checkpoint"] if summary["best"] else None
    wanted = max(rows, key=lambda row: row.created).uuid if given.latest else best
    row = next((row for row in rows if row.uuid == wanted), None)
    if row is None:
        raise UsageError(f"the best checkpoint of experiment {given.experiment} was not kept; try --latest")
    with fetched(call, row) as checkpoint:
        yield checkpoint


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", nargs="?", help=WHICH)
    parser.add_argument("--experiment", metavar="EXP", type=lookup.experiment_id, help="one of its checkpoints")
    parser.add_argument(
        "--split",
        choices=("validation", "test"),
        default="validation",
        help="on which data: those of build_data, or of the trial's build_test_data",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--best", action="store_true", help="that of the best validation (the default)")
    which.add_argument("--latest", action="store_true", help="the newest one")


COMMANDS = (
    Command(
        name="evaluate",
        group="Checkpoints",
        summary="run the validation or test set on a checkpoint",
        run=_evaluate,
        configure=_arguments,
    ),
)

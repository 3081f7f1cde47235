"""What a person is told of an experiment when it has ended or is asked about, and the exit status it gives."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from mnist_trials.cli.command import PROGRAM, Invocation
from mnist_trials.cli.screen import ATTENTION, duration, metrics_text
from mnist_trials.records import ExperimentState, TrialState

if TYPE_CHECKING:
    from mnist_trials.store import Reader
    from mnist_trials.store.rows import ExperimentRow, TrialRow

_STOPPED_BY_HAND = 3
_INTERRUPTED = 130


def exit_status(summary: Mapping[str, Any]) -> int:
    """The status with which a command ends that has followed the experiment of `summary`."""
    state = ExperimentState(summary["state"])
    if not state.ended:
        return _INTERRUPTED
    if state is ExperimentState.CANCELED:
        return _STOPPED_BY_HAND
    failed = any(trial["state"] == TrialState.ERROR for trial in summary["trials"])
    return 1 if failed or state is ExperimentState.ERROR else 0


def hint(call: Invocation, command: str) -> str:
    """`command` as the person would type it, with the home that was given."""
    home = f"--home {shlex.quote(call.arguments.home)} " if call.arguments.home else ""
    return f"{PROGRAM} {home}{command}"


@final
@dataclass(frozen=True, slots=True)
class Standing:
    """How an experiment stands, as the store had it at one moment."""

    experiment: ExperimentRow
    summary: Mapping[str, Any]  # what `describe --json` prints
    trials: Sequence[TrialRow]

    @classmethod
    def read(cls, reader: Reader, experiment_id: int) -> Standing:
        """Ask the store.

        Raises:
            UsageError: there is no such experiment.
        """
        return cls(reader.experiment(experiment_id), reader.summary(experiment_id), reader.trials(experiment_id))


def conclude(call: Invocation, standing: Standing) -> int:
    """Tell how an experiment stands that was followed to its end; returns the exit status.

    A user's own traceback is the last thing shown.
    """
    if call.screen.json:
        call.screen.document(standing.summary)
    call.screen.say()
    for line in [*experiment_lines(standing), *_next_commands(call, standing)]:
        call.screen.say(line)
    for line in _failures(call, standing):
        call.screen.warn(line)
    return exit_status(standing.summary)


def experiment_lines(standing: Standing) -> list[str]:
    """The state of an experiment in a few lines."""
    experiment = standing.experiment
    why = f" ({experiment.message})" if experiment.message else ""
    running = duration(standing.summary["wall_seconds"])
    lines = [f"Experiment {experiment.id} ({experiment.name}) {experiment.state}{why}, running time {running}"]
    lines += [f"  {name:<11} {text}" for name, text in _facts(standing)]
    if any(trial.dataset_fallback for trial in standing.trials):
        dataset = standing.summary["dataset"]
        lines.append(f"  {ATTENTION}   trained on {dataset}, not on the data set that was asked for first")
    return lines


def error_lines(standing: Standing) -> list[str]:
    """What each trial died of that ended in error, on a line each."""
    lines = []
    for trial in standing.trials:
        if trial.state is TrialState.ERROR:
            what = f"{trial.error.type}: {trial.error.message}" if trial.error else trial.message
            name = f"{standing.experiment.id}.{trial.trial_id}"
            batches = trial.error.batches if trial.error else trial.batches
            lines.append(f"trial {name} ended in error at batch {batches}: {what}")
    return lines


def _facts(standing: Standing) -> list[tuple[str, str]]:
    summary, trials = standing.summary, standing.trials
    counts = Counter(trial["state"] for trial in summary["trials"])
    facts = [("trials", ", ".join(f"{count} {state}" for state, count in counts.items()) or "none yet")]
    if summary["dataset"]:
        facts.append(("data", summary["dataset"]))
    if best := summary["best"]:
        row = next(trial for trial in trials if trial.trial_id == best["trial_id"])
        name = f"{summary['experiment_id']}.{best['trial_id']}"
        values = metrics_text({best["metric"]: best["value"], **best["metrics"]})
        facts.append(("best", f"trial {name} at batch {row.best_batches}: {values}"))
        if len(trials) > 1:
            facts.append(("", "  ".join(f"{key} {value}" for key, value in best["hyperparameters"].items())))
    if checkpoint := best_checkpoint(summary):
        facts.append(("checkpoint", checkpoint))
    return facts


def best_checkpoint(summary: Mapping[str, Any]) -> str | None:
    """The checkpoint of the best trial, else the newest of the first trial that has one."""
    if summary["best"] and summary["best"]["checkpoint"]:
        return str(summary["best"]["checkpoint"])
    return next((str(trial["latest_checkpoint"]) for trial in summary["trials"] if trial["latest_checkpoint"]), None)


def _next_commands(call: Invocation, standing: Standing) -> list[str]:
    summary, trials, number = standing.summary, standing.trials, standing.experiment.id
    commands = [f"logs {number}.{trials[0].trial_id}", f"metrics {number}.{trials[0].trial_id}"] if trials else []
    checkpoint = best_checkpoint(summary)
    if not ExperimentState(summary["state"]).ended:
        commands = [f"activate {number}", *commands]
    elif exit_status(summary) == 0 and checkpoint:
        commands += [f"evaluate {checkpoint[:8]}", f"export {checkpoint[:8]} --to DIR"]
    elif exit_status(summary) == 1:
        return []
    return ["next:", *(f"  {hint(call, command)}" for command in commands)] if commands else []


def _failures(call: Invocation, standing: Standing) -> list[str]:
    number = standing.experiment.id
    failed = [trial for trial in standing.trials if trial.state is TrialState.ERROR]
    lines = [f"{PROGRAM}: {line}" for line in error_lines(standing)]
    if failed:
        lines.append(f"`{hint(call, f'logs {number}.{failed[0].trial_id}')}` shows all that it printed.")
    lines += [trial.error.traceback.rstrip() for trial in failed if trial.error and trial.error.traceback][:1]
    return lines

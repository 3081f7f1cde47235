"""What a person is told of an experiment when it has ended or is asked about, and the exit status it gives."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from mnist_trials.cli.command import PROGRAM, Invocation
from mnist_trials.cli.figures import counts_text
from mnist_trials.cli.rungs import searcher_text
from mnist_trials.cli.screen import ATTENTION, duration, metrics_text, table
from mnist_trials.cli.trial_table import best_first, constants, hyperparameters_text, is_search, trial_table
from mnist_trials.errors import InvalidHP
from mnist_trials.records import ExperimentState, TrialState

if TYPE_CHECKING:
    from mnist_trials.store import Reader
    from mnist_trials.store.rows import ExperimentRow, TrialRow

_STOPPED_BY_HAND = 3
_INTERRUPTED = 130
_BEST_SHOWN = 5
_ERRORS_SHOWN = 5


def exit_status(standing: Standing) -> int:
    """The status with which a command ends that has followed the experiment of `standing`.

    A trial whose hyperparameters made no sense, and that the searcher has replaced, is no error.
    """
    state = standing.experiment.state
    if not state.ended:
        return _INTERRUPTED
    if state is ExperimentState.CANCELED:
        return _STOPPED_BY_HAND
    failed = any(trial.state is TrialState.ERROR and not _is_invalid(trial) for trial in standing.trials)
    return 1 if failed or state is ExperimentState.ERROR else 0


def _failed(standing: Standing) -> list[TrialRow]:
    """The trials that ended in error, those last whose hyperparameters made no sense."""
    return sorted((trial for trial in standing.trials if trial.state is TrialState.ERROR), key=_is_invalid)


def _is_invalid(trial: TrialRow) -> bool:
    return trial.error is not None and trial.error.type == InvalidHP.__name__


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
    return exit_status(standing)


def experiment_lines(standing: Standing) -> list[str]:
    """The state of an experiment in a few lines."""
    experiment = standing.experiment
    why = f" ({experiment.message})" if experiment.message else ""
    running = duration(standing.summary["wall_seconds"])
    lines = [f"Experiment {experiment.id} ({experiment.name}) {experiment.state}{why}, running time {running}"]
    lines += [f"  {name:<11} {text}" for name, text in _facts(standing)]
    lines += _best_lines(standing)
    if any(trial.dataset_fallback for trial in standing.trials):
        dataset = standing.summary["dataset"]
        lines.append(f"  {ATTENTION}   trained on {dataset}, not on the data set that was asked for first")
    return lines


def error_lines(standing: Standing) -> list[str]:
    """What trials died of that ended in error: the first few, each on a line, and how many more there are."""
    failed = _failed(standing)
    lines = []
    for trial in failed[:_ERRORS_SHOWN]:
        what = f"{trial.error.type}: {trial.error.message}" if trial.error else trial.message
        name = f"{standing.experiment.id}.{trial.trial_id}"
        batches = trial.error.batches if trial.error else trial.batches
        lines.append(f"trial {name} ended in error at batch {batches}: {what}")
    if len(failed) > _ERRORS_SHOWN:
        lines.append(f"and {len(failed) - _ERRORS_SHOWN} more trials ended in error")
    return lines


def _facts(standing: Standing) -> list[tuple[str, str]]:
    summary, trials = standing.summary, standing.trials
    facts = []
    if is_search(standing.experiment):
        facts.append(("searcher", searcher_text(standing.experiment.config)))
    facts.append(("trials", _counts(standing)))
    if summary["dataset"]:
        facts.append(("data", summary["dataset"]))
    if best := summary["best"]:
        row = next(trial for trial in trials if trial.trial_id == best["trial_id"])
        name = f"{summary['experiment_id']}.{best['trial_id']}"
        values = metrics_text({best["metric"]: best["value"], **best["metrics"]})
        facts.append(("best", f"trial {name} at batch {row.best_batches}: {values}"))
        if len(trials) > 1:
            facts.append(("", hyperparameters_text(best["hyperparameters"], constants(standing.experiment.config))))
    if checkpoint := best_checkpoint(summary):
        facts.append(("checkpoint", checkpoint))
    return facts


def _counts(standing: Standing) -> str:
    if is_search(standing.experiment):
        return counts_text(Counter((trial.state, trial.stopped_early) for trial in standing.trials))
    counts = Counter(trial.state for trial in standing.trials)
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "none yet"


def _best_lines(standing: Standing) -> list[str]:
    """The best few trials of a search."""
    best = best_first(standing.experiment, [trial for trial in standing.trials if trial.best_metric is not None])
    if not is_search(standing.experiment) or len(best) < 2:
        return []
    return ["best trials:", *(f"  {line}" for line in table(*trial_table(standing.experiment, best[:_BEST_SHOWN])))]


def best_checkpoint(summary: Mapping[str, Any]) -> str | None:
    """The checkpoint of the best trial, else the newest of the first trial that has one."""
    if summary["best"] and summary["best"]["checkpoint"]:
        return str(summary["best"]["checkpoint"])
    return next((str(trial["latest_checkpoint"]) for trial in summary["trials"] if trial["latest_checkpoint"]), None)


def _next_commands(call: Invocation, standing: Standing) -> list[str]:
    summary, trials, number = standing.summary, standing.trials, standing.experiment.id
    first = summary["best"]["trial_id"] if summary["best"] else 1
    commands = [f"logs {number}.{first}", f"metrics {number}.{first}"] if trials else []
    if is_search(standing.experiment):
        commands = [f"trials {number}", f"decisions {number}", *commands]
    checkpoint = best_checkpoint(summary)
    if not ExperimentState(summary["state"]).ended:
        commands = [f"activate {number}", *commands]
    elif standing.experiment.state is ExperimentState.ERROR:
        return []
    elif standing.experiment.state is ExperimentState.COMPLETED and checkpoint:
        commands += [f"evaluate {checkpoint[:8]}", f"export {checkpoint[:8]} --to DIR"]
    return ["next:", *(f"  {hint(call, command)}" for command in commands)] if commands else []


def _failures(call: Invocation, standing: Standing) -> list[str]:
    number, failed = standing.experiment.id, _failed(standing)
    lines = [f"{PROGRAM}: {line}" for line in error_lines(standing)]
    if failed:
        lines.append(f"`{hint(call, f'logs {number}.{failed[0].trial_id}')}` shows all that it printed.")
    if exit_status(standing) == 1:
        lines += [trial.error.traceback.rstrip() for trial in failed if trial.error and trial.error.traceback][:1]
    return lines

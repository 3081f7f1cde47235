"""Going on with an experiment: what was left behind, and what is to be done about it.

Of a controller that died there may be left: processes of its trials, runs that the store believes are on, and
checkpoints that were written but not stored. Processes are ended first, so that nothing moves any more; a checkpoint
that the store does not know does not exist.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, final

from typing_extensions import override

from mnist_trials.config import ExperimentConfig
from mnist_trials.errors import MnistTrialsError, PluginError
from mnist_trials.experiment.home import ExperimentFiles
from mnist_trials.experiment.live import LiveTrial
from mnist_trials.experiment.lock import is_locked
from mnist_trials.experiment.measure import Measure
from mnist_trials.experiment.tidying import remove_strays, storage_of, tidy
from mnist_trials.experiment.trials import Trials
from mnist_trials.plugin.processes import group_members, reap, same_group
from mnist_trials.records import ExperimentState, ProcessIdentity, TrialState
from mnist_trials.store import Reader, Store
from mnist_trials.store.rows import CheckpointRow, RunRow, TrialRow


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTrial:
    """What going on means for one trial that has not ended."""

    trial_id: int
    # From the beginning; from a checkpoint; only its end is recorded; not at all until the searcher says so.
    action: Literal["start", "continue", "finish", "rest"]
    batches: int  # where it goes on
    checkpoint: str | None
    lost_batches: int  # trained since that checkpoint, to be trained again


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What going on with an experiment would do."""

    experiment_id: int
    name: str
    state: ExperimentState
    alive: bool  # a controller is in charge: nothing is to be done
    trials: tuple[PlannedTrial, ...]
    ended_trials: int
    leftovers: tuple[ProcessIdentity, ...]  # processes of a dead controller, to be ended
    orphans: tuple[str, ...]  # checkpoint folders the store does not know, to be removed

    def to_json(self) -> dict[str, Any]:
        """As strict JSON."""
        return asdict(self)

    @override
    def __str__(self) -> str:
        """For a person, a line for each thing to do."""
        head = f"Experiment {self.experiment_id} ({self.name}), {self.state}"
        if self.state.ended:
            return f"{head}: it has ended; there is nothing to do."
        if self.alive:
            return f"{head}: it is running; there is nothing to do."
        if self.state is ExperimentState.STOPPING:
            return f"{head}: its cancelling was cut off and will be finished."
        lines = [f"{head}, {self.ended_trials} of {self.ended_trials + len(self.trials)} trials have ended:"]
        lines += [f"  end process group {process.pid}, left by a dead controller" for process in self.leftovers]
        lines += [f"  remove checkpoint {orphan}, written but never stored" for orphan in self.orphans]
        lines += [f"  trial {trial.trial_id}: {_in_words(trial)}" for trial in self.trials]
        if not self.trials:
            lines.append("  ask the searcher what is to be done")
        return "\n".join(lines)


def make_plan(reader: Reader, experiment_id: int) -> Plan:
    """What going on would do, by what is there now."""
    experiment = reader.experiment(experiment_id)
    files = ExperimentFiles(reader.home, experiment_id)
    alive = is_locked(files.lock)
    idle = alive or experiment.state.ended
    trials = load_trials(reader, experiment_id, ExperimentConfig.from_dict(experiment.config))
    return Plan(
        experiment_id=experiment_id,
        name=experiment.name,
        state=experiment.state,
        alive=alive,
        trials=() if idle else tuple(_planned(trial) for _, trial in sorted(trials.live.items())),
        ended_trials=trials.ended.total(),
        leftovers=() if alive else tuple(_leftovers(reader.open_runs(experiment_id))),
        orphans=() if idle else tuple(_orphans(files, reader.checkpoints(experiment_id))),
    )


def load_trials(reader: Reader, experiment_id: int, config: ExperimentConfig) -> Trials:
    """The trials of an experiment as the store has them."""
    checkpoints: dict[int, list[CheckpointRow]] = {}
    for row in reader.checkpoints(experiment_id):
        if row.state == "COMPLETED":
            checkpoints.setdefault(row.trial_id, []).append(row)
    runs: dict[int, list[RunRow]] = {}
    for run in reader.runs_of_live_trials(experiment_id):
        runs.setdefault(run.trial_id, []).append(run)
    judged = reader.judged_units(experiment_id)
    live = [
        replace(
            _live(row, checkpoints.get(row.trial_id, []), runs.get(row.trial_id, [])),
            judged_units=judged.get(row.trial_id, -1),
            can_hold=not Measure(config).by_time,
            weights=_weights(row, checkpoints.get(row.source_trial or 0, [])),
        )
        for row in reader.live_trials(experiment_id)
    ]
    ended: Counter[TrialState] = Counter()
    for (state, _), count in reader.trial_standing(experiment_id).items():
        if state.ended:
            ended[state] += count
    return Trials(live, ended, judged=bool(judged))


def clear_leftovers(reader: Reader, experiment_id: int) -> None:
    """End what runs of a dead controller, then remove the checkpoints it had not stored. The lock must be held.

    Raises:
        MnistTrialsError: a process cannot be ended.
    """
    for identity in _leftovers(reader.open_runs(experiment_id)):
        if not reap(identity):
            raise MnistTrialsError(
                f"Process group {identity.pid}, left by a dead controller of experiment {experiment_id}, could not be "
                "ended: it is stuck in the kernel, perhaps in a device or a network file system. Try again later."
            )
    remove_orphans(reader, experiment_id)


def remove_orphans(reader: Reader, experiment_id: int) -> None:
    """Remove what workers that were killed have written and nobody has stored. No worker may be at work."""
    files = ExperimentFiles(reader.home, experiment_id)
    for name in _orphans(files, reader.checkpoints(experiment_id)):
        shutil.rmtree(files.checkpoints / name, ignore_errors=True)


def settle(store: Store, reader: Reader, experiment_id: int, state: ExperimentState, message: str) -> None:
    """Bring an experiment without a controller to `state`, PAUSED or CANCELED. The lock must be held."""
    clear_leftovers(reader, experiment_id)
    begun = {run.trial_id for run in reader.runs_of_live_trials(experiment_id)}
    live = reader.live_trials(experiment_id)
    if state is ExperimentState.CANCELED:
        _end_trials(store, reader, experiment_id)
    with store.transaction() as transaction:
        if state is not ExperimentState.CANCELED:
            for trial in live:
                if trial.trial_id in begun:
                    # An open run stays open: it may have ended by itself, which the next controller looks into.
                    transaction.put_trial(replace(trial, state=TrialState.PAUSED))
                elif trial.state is TrialState.QUEUED and trial.message:  # it waits no more
                    transaction.put_trial(replace(trial, message=""))
        transaction.update_experiment(experiment_id, state=state, message=message)


def _end_trials(store: Store, reader: Reader, experiment_id: int) -> None:
    """End all trials, and delete the checkpoints that are not kept then; until that is done it is being cancelled."""
    with store.transaction() as transaction:
        transaction.cancel_trials(experiment_id, "")
        transaction.update_experiment(experiment_id, state=ExperimentState.STOPPING)
    tidy(store, reader, experiment_id)
    with suppress(PluginError):  # else what may lie there stays
        remove_strays(store, reader, experiment_id, storage_of(reader, experiment_id))


def _live(trial: TrialRow, checkpoints: list[CheckpointRow], runs: list[RunRow]) -> LiveTrial:
    closed = [run for run in runs if run.ended is not None]
    opened = [run for run in runs if run.ended is None]
    return LiveTrial(
        trial,
        checkpoints=[(row.batches, row.uuid) for row in checkpoints if not _is_left(row, runs)],
        runs=runs[-1].run if runs else 0,
        previous_error=closed[-1].error if closed else None,
        run=opened[-1] if opened else None,
    )


def _weights(trial: TrialRow, checkpoints: list[CheckpointRow]) -> str | None:
    """The checkpoint, out of those of its source, that `trial` starts with."""
    return next((row.uuid for row in checkpoints if row.batches >= trial.source_batches), None)


def _is_left(checkpoint: CheckpointRow, runs: list[RunRow]) -> bool:
    """Whether a later run went on from before `checkpoint`, which could not be read then."""
    later = (run for run in runs if run.run > checkpoint.run and run.backend)  # with a backend: it came to training
    return any(run.start_batches < checkpoint.batches for run in later)


def _planned(trial: LiveTrial) -> PlannedTrial:
    batches, checkpoint = trial.checkpoints[-1] if trial.checkpoints else (0, None)
    finished = trial.run is not None and (trial.run.outcome is not None or trial.row.stop_requested)
    rests = trial.at_rest and not finished
    return PlannedTrial(
        trial_id=trial.row.trial_id,
        action="finish" if finished else "rest" if rests else "continue" if checkpoint else "start",
        batches=batches,
        checkpoint=checkpoint,
        lost_batches=0 if finished or rests else max(trial.row.batches - batches, 0),
    )


def _in_words(trial: PlannedTrial) -> str:
    if trial.action == "finish":
        return "it had ended when the controller died; that is put on record"
    if trial.action == "rest":
        return f"it stays paused by the searcher, at batch {trial.batches}"
    lost = f" ({trial.lost_batches} batches are trained again)" if trial.lost_batches else ""
    if trial.action == "start":
        return f"start it from the beginning{lost}"
    return f"go on from batch {trial.batches}, checkpoint {trial.checkpoint}{lost}"


def _leftovers(runs: list[RunRow]) -> list[ProcessIdentity]:
    found = [identity for run in runs for identity in run.processes if same_group(identity)]
    # A trial that ran inside a controller has that controller's own group, which may be ours.
    return [identity for identity in found if (members := group_members(identity.pid)) and os.getpid() not in members]


def _orphans(files: ExperimentFiles, known: list[CheckpointRow]) -> list[str]:
    """What lies in the experiment's own checkpoint folder and is not in the store.

    Nothing but this experiment's workers writes there. A storage that the config names may be shared with others, where
    what is not ours cannot be told from what is.
    """
    uuids = {row.uuid for row in known}
    try:
        return sorted(name for name in os.listdir(files.checkpoints) if name not in uuids)
    except OSError:
        return []

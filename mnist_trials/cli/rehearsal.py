"""Having something done with the trial of a config in a process of its own: on one slot, on fake data, nothing kept.

No device is taken that somebody else may hold: where a trial is for one, another backend stands in for it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from mnist_trials.config import PluginChoice, sample, trial_seed
from mnist_trials.config.space import points
from mnist_trials.errors import InvalidHP
from mnist_trials.events import Event, WorkersExited
from mnist_trials.experiment.stand_in import stand_in
from mnist_trials.experiment.submission import Submission
from mnist_trials.plugin import WorkerSpec, get_plugins, python_of
from mnist_trials.records import ErrorInfo, Slot

FAKEABLE = "mnist_trials.mnist.data"
"""A trial whose module imports this takes its images from there, where `data.fake: true` is understood."""

_TASK = "task.json"
_FOUND = "found.json"
_LOG_LINES = 30
_TRIES = 4


@final
@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A folder that is removed afterwards, and the spec of the process that works in it."""

    folder: Path
    spec: WorkerSpec
    on: str  # the name of the backend that it takes place on

    def run(self, deliver: Callable[[Event], None]) -> ErrorInfo | None:
        """Start the process and wait for its end; returns what was wrong where it ended without a word of its own."""
        exits: list[WorkersExited] = []

        def hear(event: Event) -> None:
            deliver(event)
            if isinstance(event, WorkersExited):
                exits.append(event)

        launcher = get_plugins().find("launcher", "local").factory({})
        handle = launcher.create([self.spec])
        try:
            handle.start(hear)
            while not handle.join(1.0):
                pass
        finally:
            handle.kill()
            handle.join(10.0)
            launcher.close()
        return None if exits[0].exit_codes == (0,) else _silent_death(exits[0], self.folder / "log.txt")

    @property
    def found(self) -> dict[str, Any]:
        """What the process told by `tell_found`; empty where it did not come so far."""
        path = self.folder / _FOUND
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


@contextmanager
def rehearsal(
    submission: Submission,
    target: str,
    task: Mapping[str, Any],
    *,
    environment: Mapping[str, str] | None = None,
    slot: Slot | None = None,
    number: int = 1,
    **changes: Any,
) -> Iterator[Rehearsal]:
    """Prepare to have `target`, a function of (WorkerSpec, Channel) as `module:name`, called in a process of its own.

    `task` is what `task_of` gives there, with the config's choice of a backend as "backend". `changes` are keys of the
    config that are other there, `environment` has further variables, `slot` is one to be like, and `number` that of the
    trial whose hyperparameters it has.

    Raises:
        PluginError: nothing can stand in for the config's backend here.
    """
    with tempfile.TemporaryDirectory(prefix="mnist-trials-rehearsal-") as name:
        folder = Path(name)
        spec = _spec(submission, folder, target, changes, environment or {}, slot, number)
        given = {**task, "backend": submission.loaded.config.backend.to_dict()}
        (folder / _TASK).write_text(json.dumps(given), encoding="utf-8")
        yield Rehearsal(folder, spec, spec.slot.backend)


def tries(submission: Submission) -> Iterator[int]:
    """The numbers of the trials to be tried one after the other, as long as their hyperparameters are refused.

    A trial of a search that raises InvalidHP is replaced by another one, so it is no mistake of the config.
    """
    distinct = points(submission.loaded.config.hyperparameters)
    yield from range(1, 1 + min(_TRIES, _TRIES if distinct is None else distinct))


def refused(error: ErrorInfo | None) -> bool:
    """Whether it is an InvalidHP that a trial ended with."""
    return error is not None and error.type == InvalidHP.__name__


def told_refused(number: int, error: ErrorInfo) -> str:
    """What to say of hyperparameters that the trial refuses, where others are tried."""
    return (
        f"the trial refuses the hyperparameters that trial {number} would have (InvalidHP: {error.message}); a search "
        "replaces them by others, and so does this"
    )


def task_of(spec: WorkerSpec) -> dict[str, Any]:
    """In the process: what it is to do."""
    task: dict[str, Any] = json.loads((Path(spec.trial_dir) / _TASK).read_text(encoding="utf-8"))
    return task


def tell_found(spec: WorkerSpec, found: Mapping[str, Any]) -> None:
    """In the process: what it has found out, as JSON values."""
    (Path(spec.trial_dir) / _FOUND).write_text(json.dumps(found), encoding="utf-8")


def on_fake_data(spec: WorkerSpec, fake: bool | Mapping[str, int] = True) -> WorkerSpec:
    """In the process: `spec` with random images in the place of MNIST, where the trial can have them.

    `fake` is what it says in the `data` section (see docs/data.md).
    """
    from mnist_trials.worker.entrypoint import load_trial_class

    config = dict(spec.config)
    with suppress(BaseException):  # told by whoever loads it next
        load_trial_class(config["entrypoint"], Path(spec.context_dir))
    if FAKEABLE in sys.modules:
        config["data"] = {**(config.get("data") or {}), "fake": fake}
    return replace(spec, config=config)


def _spec(
    submission: Submission,
    folder: Path,
    target: str,
    changes: Mapping[str, Any],
    environment: Mapping[str, str],
    like: Slot | None,
    number: int,
) -> WorkerSpec:
    config = submission.loaded.config
    choice, backend = stand_in(get_plugins(), config.backend)
    slot = like or backend.slots(1)[0]
    document = {**config.to_dict(), **changes, "backend": choice.to_dict()}
    # One process is enough to see whether the trial works: it has the whole batch and whole parameters. It is told of
    # the other slots, because it can see too whether batch and parameters could be split over them.
    document["shard"] = False
    document["checkpoint_storage"] = {"type": "directory", "container_path": str(folder / "checkpoints")}
    return WorkerSpec(
        experiment_id=1,
        trial_id=1,
        run=1,
        rank=0,
        size=1,
        slots=(slot,),
        config=document,
        hparams=sample(config.hyperparameters, config.experiment_seed, number),
        seed=trial_seed(config.experiment_seed, number),
        context_dir=str(submission.context),
        trial_dir=str(folder),
        log_path=str(folder / "log.txt"),
        checkpoint_root=str(folder / "checkpoints"),
        test_mode=True,
        environment={**backend.environment((slot,)), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        python=python_of(config.backend.name, config.backend.options),
        target=target,
    )


def chosen(task: Mapping[str, Any]) -> PluginChoice:
    """In the process: the backend that the config chose."""
    return PluginChoice.of(task["backend"])


def _silent_death(exited: WorkersExited, log: Path) -> ErrorInfo:
    printed = log.read_text(errors="replace").splitlines()[-_LOG_LINES:] if log.exists() else []
    reason = exited.reason or f"its process ended with status {exited.exit_codes[0]} and said nothing"
    return ErrorInfo(type="ProcessEnded", message=reason, traceback="\n".join(printed), batches=0)

"""`mt.init()`: the context of the current trial, for scripts that build their own Trainer."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, final

from typing_extensions import override

from mnist_trials.config import ExperimentConfig
from mnist_trials.records import Outcome
from mnist_trials.worker import seat as seats
from mnist_trials.worker.console import ConsoleChannel
from mnist_trials.worker.ending import await_cause, tell_end, tell_failure
from mnist_trials.worker.plain import Source, plain_spec
from mnist_trials.worker.recorder import Recorder
from mnist_trials.worker.setup import open_context
from mnist_trials.worker.watchdog import watched

if TYPE_CHECKING:
    from mnist_trials.training.context import TrialContext

_INTERRUPTED = 130
"""The exit status of a command that Ctrl-C ended."""


def in_experiment() -> bool:
    """Whether this process runs for a trial of an experiment (True), or is a plain script (False)."""
    return seats.in_experiment()


def init(
    hparams: Mapping[str, Any] | None = None,
    config: Source | None = None,
    *,
    seed: int | None = None,
    data_root: str | Path | None = None,
) -> AbstractContextManager[TrialContext]:
    """The context of the current trial, for the time of a `with` block.

        with mt.init(config="const.yaml") as context:
            mt.Trainer(MyTrial(context), context).fit(max_length=mt.Epoch(1))

    Inside an experiment it is that trial's context and the arguments are not looked at: hyperparameters, seed and data
    come from the experiment. One process of each rank can have it, once. The end of the block is the end of the trial;
    a script that fails after it has failed all the same.

    In a plain script it is a local one: training is told on the screen, checkpoints lie under
    `HOME/scripts/NAME/checkpoints` unless the config names a storage, and the first Ctrl-C saves a checkpoint, lets
    `fit` return, and at the end of the block exits with status 130. Under `torchrun` or
    `python3 -m mnist_trials.launch.torch_distributed` the ranks train one trial together, and rank 0 alone tells of it.

    Args:
        hparams: hyperparameters; they go before those of `config`.
        config: an experiment config (a path, or a map) whose constants are taken.
        seed: by default that of the first trial that the config would give.
        data_root: where the data set lies; by default MNIST_TRIALS_DATA.

    Raises (when the block is entered):
        ConfigError: mistakes in `config`.
        UsageError: `config` has a range that `hparams` gives no value for, or the context was taken already.
        PluginError: the device is not to be had here.
        TrialError: the mesh of `config` is for another number of ranks.
        RanksMissing: some ranks did not come in time.
    """
    if seats.in_experiment():
        return _Taken()
    return _Local(hparams or {}, config, seed, data_root)


@final
class _Taken(AbstractContextManager["TrialContext"]):
    """The trial's own context, inside an experiment."""

    def __init__(self) -> None:
        self._context: TrialContext | None = None
        self._outcome: Outcome | None = None  # once the block has been left in good order
        self._watch = ExitStack()
        self._process = os.getpid()

    @override
    def __enter__(self) -> TrialContext:
        self._seat = seats.take()
        self._spec = self._seat.spec
        self._recorder = Recorder(self._seat.channel)
        self._seat.leave = self._tell
        atexit.register(self._at_exit)
        try:
            os.environ.update(self._spec.environment)
            config = ExperimentConfig.from_dict(self._spec.config)
            self._context = open_context(self._spec, config, self._recorder)
            self._watch.enter_context(watched(self._context, self._recorder))
        except BaseException as error:
            self._tell(error)
            raise
        return self._context

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.close()
        if _is_failure(error):
            self._tell(error)
        else:  # told when the script has ended: it may still fail
            self._leave()

    def _leave(self) -> None:
        assert self._context is not None
        request = self._recorder.stop_requested()
        self._outcome = request.outcome if request else Outcome.COMPLETED
        self._context.execution.close()

    def _at_exit(self) -> None:
        """The interpreter ends; the block may never have been left."""
        if os.getpid() == self._process:  # not a child that was forked
            self._tell(getattr(sys, "last_value", None))

    def _tell(self, error: BaseException | None) -> None:
        atexit.unregister(self._at_exit)
        self._watch.close()
        if self._context is not None and self._context.trainer is not None:
            self._recorder.batches = self._context.trainer.batches
        if error is not None and _is_failure(error):
            await_cause(self._spec, error)
            tell_failure(self._spec, self._recorder, error)
        else:
            if self._outcome is None:
                self._leave()
            assert self._outcome is not None
            tell_end(self._spec, self._recorder, self._outcome)


def _is_failure(error: BaseException | None) -> bool:
    return error is not None and not (isinstance(error, SystemExit) and not error.code)


@final
class _Local(AbstractContextManager["TrialContext"]):
    """A context of the script's own, outside any experiment."""

    def __init__(
        self,
        hparams: Mapping[str, Any],
        source: Source | None,
        seed: int | None,
        data_root: str | Path | None,
    ) -> None:
        self._arguments = (hparams, source, seed, data_root)
        self._channel = ConsoleChannel()
        self._recorder = Recorder(self._channel)
        self._restore = ExitStack()

    @override
    def __enter__(self) -> TrialContext:
        spec, config = plain_spec(*self._arguments)
        Path(spec.trial_dir).mkdir(parents=True, exist_ok=True)
        os.environ.update(spec.environment)
        self._channel.silent = spec.rank > 0
        self._context = open_context(spec, config, self._recorder)
        self._restore.enter_context(watched(self._context, self._recorder))
        self._restore.enter_context(self._channel.interruptible(passed_on=spec.size > 1))
        return self._context

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore.close()
        if error is not None:
            await_cause(self._context.spec, error)
        if self._recorder.checkpoint is not None:
            print(f"Checkpoint: {self._recorder.checkpoint}", flush=True)
        if error is not None:
            return
        # A launcher ends all ranks when one ends with another status than 0; rank 0 may still be saving.
        interrupted = any(self._context.execution.ranks.gather(self._channel.interrupted))
        self._context.execution.close()
        if interrupted:
            raise SystemExit(_INTERRUPTED)

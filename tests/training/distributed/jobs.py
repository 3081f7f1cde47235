"""What the ranks of a test do: a training, with all that came of it, and what may come before or after one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

import mnist_trials as mt
from mnist_trials.errors import CheckpointError, DataError, NonFiniteLoss, TrialError
from mnist_trials.events import Event, MetricsReported, Notice, Request
from mnist_trials.plugin import Layout, Spread
from mnist_trials.testing import backend_ranks
from mnist_trials.testing.channel import RecordingChannel
from mnist_trials.training.context import TrialContext
from mnist_trials.training.evaluation import evaluate
from mnist_trials.training.saving import background, checkpoints
from mnist_trials.training.session import Session
from mnist_trials.training.settings import resolve
from mnist_trials.training.torch_models.optimizer_states import local_part
from mnist_trials.training.trainer import FitResult
from tests.training.distributed.trials import Rows
from tests.training.lab import Lab
from tests.training.storages import Failing

AGGREGATED = {"aggregation_frequency": 3}
HPARAMS = {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.1, "global_batch_size": 16}


@dataclass
class Told:
    """What a rank has to say of its training."""

    rank: int
    events: list[Event]
    result: FitResult
    weights: dict[str, torch.Tensor]  # whole
    held: int  # elements of parameters in this process
    state: dict[str, Any] = field(default_factory=dict)  # whole too

    @property
    def notices(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Notice)]

    @property
    def reported(self) -> list[dict[str, Any]]:
        return [dict(event.metrics) for event in self.events if isinstance(event, MetricsReported)]


@contextmanager
def opened(
    layout: Layout, folder: Path, hparams: Mapping[str, Any] | None = None, **options: Any
) -> Iterator[TrialContext]:
    """The context of a rank, and its way out of the group."""
    context = Lab(folder).context({**HPARAMS, **(hparams or {})}, layout=layout, **options)
    try:
        yield context
    finally:
        context.execution.close()


def whole(state: Any, context: TrialContext) -> Any:
    """A copy of a nested state, with every tensor whole."""
    if isinstance(state, torch.Tensor | Spread):
        return backend_ranks.whole(state, context.execution.ranks).clone()
    if isinstance(state, Mapping):
        return {key: whole(item, context) for key, item in state.items()}
    return type(state)(whole(item, context) for item in state) if type(state) in (list, tuple) else state


def train(
    layout: Layout,
    folder: Path,
    *,
    trial: type[mt.Trial] = Rows,
    hparams: Mapping[str, Any] | None = None,
    stop_at_poll: int | None = None,
    answers: Sequence[Request] = (),
    options: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> Told:
    """Train `trial`. Rank 0 alone hears requests; a word to any other rank would be an error."""
    channel = RecordingChannel()
    if layout.rank == 0:
        channel.answers.extend(answers)
        if stop_at_poll is not None:
            channel.stop_at_poll(stop_at_poll)
    with opened(layout, folder, hparams, channel=channel, **(options or {})) as context:
        made = trial(context)
        trainer = mt.Trainer(made, context)
        result = trainer.fit(**arguments)
        session = trainer._session
        assert session is not None
        weights = whole(session.learning.weights(), context)
        held = sum(local_part(parameter).numel() for parameter in session.learning.model.parameters())
        return Told(layout.rank, channel.events, result, weights, held, whole(session.state_dict(), context))


@contextmanager
def session_of(layout: Layout, folder: Path, uuid: str, trial: type[mt.Trial]) -> Iterator[Session]:
    """A training that was restored from a checkpoint and has not gone on."""
    with opened(layout, folder, AGGREGATED) as context:
        chosen = dict.fromkeys(("validation_period", "checkpoint_period", "reporting_period", "checkpoint_policy"))
        settings = resolve(
            context,
            max_length=mt.Batch(100),
            step_zero_validation=None,
            test_mode=False,
            profiling_enabled=None,
            **chosen,  # type: ignore[arg-type]
        )
        session = Session(trial(context), context, settings)
        checkpoints.restore(session, Lab(folder).read(uuid))
        yield session


def restored(layout: Layout, folder: Path, *, uuid: str, trial: type[mt.Trial]) -> dict[str, Any]:
    """Everything of such a training."""
    with session_of(layout, folder, uuid, trial) as session:
        return dict(whole({"weights": session.learning.weights(), **session.state_dict()}, session.context))


def fails_to_save(layout: Layout, folder: Path, *, times: int, **keywords: Any) -> tuple[str, list[str]]:
    """How a training ends whose storage fails so many times, and the notices of this rank."""
    channel = RecordingChannel()
    with patch.object(background, "PAUSES", (0.0, 0.0)), opened(layout, folder, channel=channel) as context:
        context.storage = Failing(context.storage, times, CheckpointError("the dog ate it"))
        try:
            end = str(mt.Trainer(Rows(context), context).fit(**keywords).batches)
        except CheckpointError as error:
            end = str(error)
    return end, [event.message for event in channel.of(Notice)]


def failed(layout: Layout, folder: Path, **keywords: Any) -> str:
    """The error that ends a training."""
    try:
        train(layout, folder, **keywords)
    except (TrialError, DataError, NonFiniteLoss, CheckpointError) as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("nothing went wrong")


def validated(layout: Layout, folder: Path, *, trial: type[mt.Trial] = Rows) -> dict[str, float]:
    """The metrics of an untrained model, by `evaluate`."""
    with opened(layout, folder) as context:
        return evaluate(trial(context), context)

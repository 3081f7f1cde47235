"""What `compile` has done in a process of its own: the programs of a trial, made and written down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_trials.cli.program_files import Written
from mnist_trials.cli.rehearsal import on_fake_data, task_of, tell_found
from mnist_trials.config import ExperimentConfig
from mnist_trials.errors import MnistTrialsError, PluginError
from mnist_trials.plugin import PARTS, ArrayKind, Channel, Lowered, Refused, WorkerSpec, get_plugins
from mnist_trials.plugin.launcher import Quiet

if TYPE_CHECKING:
    from mnist_trials.programs.graph import Graph
    from mnist_trials.programs.specs import TensorSpec
    from mnist_trials.training.session import Session
    from mnist_trials.training.torch_models.learning import TorchLearning

STABLEHLO = "stablehlo"
PROGRAMS = "programs"

_SIZES = {"train": 60_000, "test": 10_000}  # MNIST's own, on which it depends how long the last batch is


def run(spec: WorkerSpec, channel: Channel) -> int:
    """What the process calls. What it has made, and what not, is told by `tell_found`."""
    from mnist_trials.worker.failure import describe, show

    task = task_of(spec)
    try:
        found = _made(on_fake_data(spec, _SIZES), task)
    except (Exception, SystemExit) as error:  # of the trial's own code, mostly
        show(error)
        tell_found(spec, {"error": asdict(describe(error, 0))})
        return 0
    tell_found(spec, found)
    return 0


def _made(spec: WorkerSpec, task: Mapping[str, Any]) -> dict[str, Any]:
    from mnist_trials.training.inspection.inspect import open_session
    from mnist_trials.training.torch_models.learning import TorchLearning
    from mnist_trials.worker.entrypoint import load_trial_class
    from mnist_trials.worker.setup import open_context

    config = ExperimentConfig.from_dict(spec.config)
    assert config.entrypoint.trial is not None
    trial_class = load_trial_class(config.entrypoint.trial, Path(spec.context_dir))
    context = open_context(spec, config, Quiet())
    session = open_session(trial_class(context), context)
    written = Written(None if task["out"] is None else Path(task["out"]))
    if not isinstance(session.learning, TorchLearning):
        _write(written, _lowered_by_learner(session, task["platforms"]))
        kind = STABLEHLO
    elif not task["compiles"]:
        _write(written, _lowered_by_backend(session, session.learning, task["backend"]["name"]))
        kind = STABLEHLO
    else:
        _build(written, session, session.learning)
        kind = PROGRAMS
    context.execution.close()
    return written.finish(kind, task["config"])


def _write(written: Written, made: Iterator[Lowered | Refused]) -> None:
    for one in made:
        if isinstance(one, Refused):
            written.refuse(one.name, one.reason)
        else:
            written.lowered(one)


def _lowered_by_learner(session: Session, platforms: Sequence[str]) -> Iterator[Lowered | Refused]:
    from mnist_trials.training.portions import PortionLearning

    learning = session.learning
    assert isinstance(learning, PortionLearning)
    (batch, size, _), (examined, of_them, _) = _batches(session)
    made = list(learning.learner.lowered(batch, size, examined, of_them, platforms))
    name = session.context.spec.slot.backend
    yield from made or [Refused(part, f"the backend '{name}' lowers no programs") for part in PARTS]


def _lowered_by_backend(session: Session, learning: TorchLearning, chosen: str) -> Iterator[Lowered | Refused]:
    from mnist_trials.training.inspection.parts import TorchParts

    parts = TorchParts(session.trial, session.context, learning, *_batches(session))
    for name, capture in zip(PARTS, parts.all(), strict=True):
        try:
            yield _lowered(capture(), chosen)
        except MnistTrialsError as error:
            yield Refused(name, str(error))


def _lowered(graph: Graph, chosen: str) -> Lowered:
    """By the first backend that can, the chosen one before others.

    Raises:
        PluginError: none can; the text says why, as the last one that tried has it.
    """
    known = get_plugins().backends()
    names = sorted(known, key=lambda name: (name != chosen, name))
    reason = "no installed backend lowers torch programs to StableHLO: pip install 'mnist-trials[xla]'"
    for name in names:
        try:
            made = known[name].make({}).lower(graph.name, graph.exported(), _kinds(graph.inputs), _kinds(graph.outputs))
        except PluginError as error:
            reason = str(error)
            continue
        if made is not None:
            return made
    raise PluginError(reason)


def _kinds(specs: Mapping[str, TensorSpec]) -> dict[str, ArrayKind]:
    return {name: ArrayKind(spec.shape, str(spec.dtype).removeprefix("torch.")) for name, spec in specs.items()}


def _build(written: Written, session: Session, learning: TorchLearning) -> None:
    from mnist_trials.training.inspection.building import build_programs

    for bound in build_programs(session, learning):
        written.program(bound)


def _batches(session: Session) -> Any:
    """A whole batch of either data set."""
    return next(session.stream.batches()), next(session.validation.open(0, 0))

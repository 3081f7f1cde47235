"""What a trial knows of the world around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch

from mnist_trials.config import Mesh
from mnist_trials.errors import ProgramError, TrialError
from mnist_trials.events import DatasetChosen, Notice
from mnist_trials.plugin import Channel, CheckpointStorage, Execution, Layout, WorkerSpec
from mnist_trials.training.data.cuts import DataRank, even_share
from mnist_trials.training.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    from mnist_trials.training.measures.performance import Performance
    from mnist_trials.training.torch_models.stepper import Stepper
    from mnist_trials.training.trainer import Trainer


@final
class TrialContext:
    """One run of one trial, as the trial and its Trainer see it.

    Attributes:
        hparams: the hyperparameters, a plain dict; a missing one gives an error that names those there are.
        experiment_config: the resolved experiment config; empty where there is none.
        data: its `data` section.
        seed: the trial's seed; everything random is seeded from it already.
        experiment_id: 0 outside an experiment.
        trial_id, run: which trial, and which attempt of it (from 1).
        rank, size: which of how many processes of the trial this one is.
        data_root: where data sets lie, if that was said.
        directory: a folder of this trial's own, kept between runs.
        test_mode: whether only one batch is to be trained.
        device: where model and batches lie.
        spec, channel, execution, storage, beats, rested_at, datasets, performance, refuses_steps: the runtime's own.
        trainer: the last Trainer that was made with this context.
    """

    def __init__(self, spec: WorkerSpec, channel: Channel, execution: Execution, storage: CheckpointStorage) -> None:
        self.spec = spec
        self.channel = channel
        self.execution = execution
        self.storage = storage
        self.hparams: dict[str, Any] = Hyperparameters(spec.hparams)
        self.experiment_config: Mapping[str, Any] = spec.config
        self.data: dict[str, Any] = dict(spec.config.get("data") or {})
        self.seed = spec.seed
        self.experiment_id = spec.experiment_id
        self.trial_id = spec.trial_id
        self.run = spec.run
        self.rank = spec.rank
        self.size = spec.size
        self.data_root = None if spec.data_root is None else Path(spec.data_root)
        self.directory = Path(spec.trial_dir)
        self.test_mode = spec.test_mode
        self.trainer: Trainer | None = None
        self.beats = 0  # goes up as long as something is done
        self.rested_at: int | None = None  # what `beats` was when nothing more was to be expected for a while
        self.performance: Performance | None = None
        self.datasets: list[str] = []  # names of those that the trial said it trains on
        self.refuses_steps: str | None = None  # why a trial must not step its optimizers now
        self._stepper: Stepper | None = None

    @property
    def in_experiment(self) -> bool:
        """Whether this is a trial of an experiment, not a plain script."""
        return self.experiment_id != 0

    @property
    def device(self) -> torch.device:
        """Where model and batches lie."""
        return self.execution.device

    @property
    def layout(self) -> Layout:
        """Where this process stands in the mesh of the trial."""
        return self.execution.ranks.layout

    @property
    def mesh(self) -> Mesh:
        """How the slots that train are arranged: the processes of the trial, or the devices of its one process."""
        return self.layout.mesh if self.size > 1 else self.execution.mesh

    @property
    def planned_mesh(self) -> Mesh:
        """`mesh`; where one slot tries a trial of several out (`validate`), the one that the trial is to have."""
        if not self.test_mode or self.size > 1 or len(self.spec.slots) > 1:
            return self.mesh
        config = self.experiment_config
        if config.get("mesh"):
            return Mesh(**config["mesh"])
        slots = (config.get("resources") or {}).get("slots_per_trial")
        return Mesh(data=slots if isinstance(slots, int) else 1, tensor=1)

    @property
    def data_rank(self) -> DataRank:
        """Which share of the data this process takes."""
        layout = self.layout
        return DataRank(layout.data_rank, layout.mesh.data)

    @property
    def hparam_batch_size(self) -> int | None:
        """What `global_batch_size` or `batch_size` say; None where neither is given.

        Raises:
            TrialError: it is no whole number of at least 1, or the two differ.
        """
        given = {name: self.hparams[name] for name in ("global_batch_size", "batch_size") if name in self.hparams}
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise TrialError(f"The hyperparameter '{name}' must be a whole number of at least 1, not {value!r}.")
        if len(set(given.values())) > 1:
            raise TrialError(
                f"The hyperparameters say global_batch_size {given['global_batch_size']} and batch_size "
                f"{given['batch_size']}. They mean the same; give one of them."
            )
        return next(iter(given.values()), None)

    @property
    def global_batch_size(self) -> int:
        """Samples per batch over all data-parallel slots, from the hyperparameters.

        Raises:
            TrialError: neither `global_batch_size` nor `batch_size` is given, or they are no good.
        """
        size = self.hparam_batch_size
        if size is None:
            raise TrialError(
                "The hyperparameters do not say how large a batch is. Add `global_batch_size: 64` (or whatever you "
                "want) under `hyperparameters`."
            )
        return size

    @property
    def per_slot_batch_size(self) -> int:
        """Samples per batch in this process: on its slot, or on all of them where it drives several.

        Slots that split the model, not the data, have the same ones.

        Raises:
            TrialError: as `global_batch_size`, or it cannot be split evenly.
        """
        return self.split(self.global_batch_size)

    def split(self, global_batch_size: int) -> int:
        """The share of each process of a batch of `global_batch_size` samples.

        Raises:
            TrialError: it cannot be split evenly.
        """
        even_share(global_batch_size, self.planned_mesh.data)
        return even_share(global_batch_size, self.data_rank.of)

    def beat(self) -> None:
        """Called by the runtime as it goes on: a watchdog looks whether `beats` still goes up."""
        self.beats += 1

    def rest(self) -> None:
        """Called by the runtime, on every rank, when `fit` has ended.

        Until the next beat nothing need go on: a script may do what it likes afterwards.
        """
        self.rested_at = self.beats

    def notice(self, message: str) -> None:
        """Tell a person something that also belongs in the record."""
        self.channel.emit(Notice(trial_id=self.trial_id, run=self.run, rank=self.rank, message=message))

    def dataset_chosen(self, dataset: str, detail: str, fallback: bool = False) -> None:
        """Say which data set is really trained on. `fallback`: it is not the one asked for first.

        Every rank says so, and the first one's word goes into the record: all must have the same.
        """
        self.datasets.append(dataset)
        if self.rank != 0:
            return
        self.channel.emit(
            DatasetChosen(
                trial_id=self.trial_id,
                run=self.run,
                rank=self.rank,
                dataset=dataset,
                detail=detail,
                fallback=fallback,
            )
        )

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of `loss`, in a trial that steps its optimizers itself.

        The first call of this or of `step_optimizer` tells the runtime to leave backward passes and steps to the trial.
        """
        self._manual().backward(loss)

    def step_optimizer(
        self,
        optimizer: torch.optim.Optimizer,
        clip_grads: Callable[[Iterator[torch.nn.Parameter]], object] | None = None,
        auto_zero_grads: bool = True,
    ) -> None:
        """Update the parameters of `optimizer`, in a trial that steps its optimizers itself.

        `clip_grads` is called with an iterator over these parameters, whose gradients then have their true size.
        With `auto_zero_grads` the gradients are cleared after the step.
        """
        self._manual().step(optimizer, clip_grads, auto_zero_grads)

    def attach(self, stepper: Stepper) -> None:
        """Called by the Trainer: who carries out backward passes and steps."""
        self._stepper = stepper

    def _manual(self) -> Stepper:
        if self.refuses_steps is not None:
            raise ProgramError(self.refuses_steps)
        if self._stepper is None:
            raise TrialError("There is nothing to step yet: this can be called in train_batch, while fit() runs.")
        self._stepper.take_over()
        return self._stepper

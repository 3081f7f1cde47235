"""The specs of a run's workers: everything a worker process is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from mnist_trials.experiment.home import VARIABLE as HOME
from mnist_trials.experiment.home import ExperimentFiles
from mnist_trials.experiment.live import LiveTrial
from mnist_trials.experiment.modes import mode_of
from mnist_trials.experiment.strays import OWNER
from mnist_trials.experiment.warm_start import Source
from mnist_trials.plugin import Backend, WorkerSpec
from mnist_trials.records import Slot

DEFAULT_TARGET = "mnist_trials.worker.main:run"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SpecMaker:
    """Makes the specs of one experiment's workers."""

    files: ExperimentFiles
    document: Mapping[str, Any]  # the resolved config
    options: Mapping[str, Any]
    per_rank: bool  # the entrypoint is run on every slot of a trial; else once for all of them
    backend: Backend
    python: str | None  # the interpreter that the backend's config names
    target: str

    def specs(self, live: LiveTrial, slots: tuple[Slot, ...], validate_at: tuple[int, ...]) -> list[WorkerSpec]:
        """One spec per process, by rank, for the run `live.runs` on `slots`. Makes the trial's folder."""
        trial = live.row
        self.files.trial(trial.trial_id).mkdir(parents=True, exist_ok=True)
        source = Source.of(self.options)
        together = self.backend.one_process or not self.per_rank
        shares = [slots] if together else [(slot,) for slot in slots]
        return [
            WorkerSpec(
                experiment_id=self.files.experiment_id,
                trial_id=trial.trial_id,
                run=live.runs,
                rank=rank,
                size=len(shares),
                slots=share,
                config=self.document,
                hparams=trial.hparams,
                seed=trial.seed,
                context_dir=str(self.files.context),
                trial_dir=str(self.files.trial(trial.trial_id)),
                log_path=str(self.files.trial_log(trial.trial_id)),
                checkpoint_root=str(self.files.checkpoints),
                checkpoints=tuple(uuid for _, uuid in reversed(live.checkpoints)),
                warm_start=live.weights or (None if source is None else source.for_workers(self.files)),
                resume=live.weights is None and source is not None and source.whole,
                validate_at=validate_at,
                until=live.holds_at,
                data_root=self.options.get("data_root"),
                started_in=self.options.get("started_in"),
                test_mode=bool(self.options.get("test")),
                mode=mode_of(self.options),
                owner=self.options.get(OWNER, ""),
                environment={**self.backend.environment(share), HOME: str(self.files.home)},
                python=self.python,
                target=self.target,
            )
            for rank, share in enumerate(shares)
        ]

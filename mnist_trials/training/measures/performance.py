"""performance.json: how much a trial has trained in how much time, over all of its runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from mnist_trials.plugin import Execution

FILE: Final = "performance.json"

_SUMMED: Final = (
    "runs",
    "batches",
    "total_samples",
    "seconds",
    "input_wait_seconds",
    "validation_seconds",
    "checkpoint_seconds",
    "compile_seconds",
    "compilations",
)

_BOTTLENECK: Final = 1 / 3
"""The share of training from which on waiting for input counts as what holds it up."""


@final
class Performance:
    """What the runs of a trial have done so far, this one included.

    A run of a trial adds to those before it; the first one, and a plain script, begin anew. All that training waited
    for is measured by the host: what a device still computes then counts where its result is waited for.

    Attributes:
        batches, samples: trained in this run, over all slots.
        seconds: of this run, without those in which it waited for its searcher's word.
        input_wait: of these, waiting for batches.
        validation: of these, in validations.
        checkpoints: of these, copying what is saved and waiting for saves.
        program_seconds: of these, building programs, or loading those that were built before.
        programs_built: how many were built.
    """

    def __init__(self, directory: Path, execution: Execution, *, goes_on: bool) -> None:
        """`directory` is the trial's own, in which the file lies; `goes_on`: runs before this one count."""
        self._path = directory / FILE
        self._execution = execution
        self._before = read_performance(directory) or {} if goes_on else {}
        self.batches = 0
        self.samples = 0
        self.seconds = 0.0
        self.input_wait = 0.0
        self.validation = 0.0
        self.checkpoints = 0.0
        self.program_seconds = 0.0
        self.programs_built = 0

    def document(self) -> dict[str, Any]:
        """What the file holds, as docs/trial.md describes it."""
        own = (
            1,
            self.batches,
            self.samples,
            self.seconds,
            self.input_wait,
            self.validation,
            self.checkpoints,
            self._execution.compile_seconds + self.program_seconds,
            self._execution.compilations + self.programs_built,
        )
        total = {name: self._before.get(name, 0) + value for name, value in zip(_SUMMED, own, strict=True)}
        training = max(total["seconds"] - total["validation_seconds"] - total["checkpoint_seconds"], 0.0)
        share = total["input_wait_seconds"] / training if training > 0 else 0.0
        return {
            **total,
            "training_seconds": training,
            "samples_per_second": total["total_samples"] / training if training > 0 else None,
            "input_wait_share": share,
            "suspected_input_bottleneck": share > _BOTTLENECK,
        }

    def write(self) -> None:
        """Write the file, whole or not at all.

        Raises:
            OSError: it could not be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_name(f".{FILE}.{os.getpid()}")
        try:
            new.write_text(json.dumps(self.document(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
            new.replace(self._path)
        finally:
            new.unlink(missing_ok=True)


def read_performance(directory: Path) -> Mapping[str, Any] | None:
    """What the file in the trial's folder `directory` holds; None where there is none that can be read."""
    try:
        document = json.loads((directory / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    good = isinstance(document, dict) and all(isinstance(document.get(name), int | float) for name in _SUMMED)
    return document if good else None

"""Finds losses that are not finite, names them, and keeps them out of checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch

from mnist_trials.errors import NonFiniteLoss
from mnist_trials.training.agreement import first_of
from mnist_trials.training.session import Session


@final
@dataclass(frozen=True, slots=True)
class _Finding:
    """A metric that was not finite. `batches` are counted from the start of the open reporting period."""

    metric: str
    text: str
    batches: tuple[int, ...]


@final
class LossGuard:
    """Checks losses late, where their values are needed anyway: reading one from a device waits for it.

    `on_nan` says what a loss that is not finite means: `stop` ends training, `warn` says so once per check, and with
    `skip` the loop leaves its batch out beforehand (see `leave_out`).
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._ranks = session.context.execution.ranks
        self._on_nan = session.settings.on_nan
        self._left_out = 0
        self._first_left_out = ""
        self.reset()  # what comes from a checkpoint was checked before it was saved

    def reset(self) -> None:
        """All that is gathered at this moment needs no check any more."""
        metrics = self._session.training_metrics
        self._checked = {name: metrics.count(name) for name in self._names()}

    def leave_out(self) -> None:
        """Count the batch at hand, which is not learnt from."""
        self._left_out += 1
        if self._left_out == 1:
            self._first_left_out = self._where(self._session.position.batches)

    def check(self) -> None:
        """Check what has come since the last call, on any rank. A collective.

        Raises:
            NonFiniteLoss: a loss is not finite and `on_nan` is `stop`.
        """
        if self._left_out:
            self._session.context.notice(
                f"{self._left_out} batches were left out because their loss was not finite, the first in "
                f"{self._first_left_out}."
            )
            self._left_out = 0
        found = [finding for name in self._names() if (finding := self._look_at(name)) is not None]
        for finding in self._of_all_ranks(found):
            self._tell(finding)
        self.reset()

    def check_parameters(self) -> None:
        """Check what is about to be saved. A collective, as `check` is.

        Raises:
            NonFiniteLoss: a parameter is not finite and `on_nan` is `stop`.
        """
        if self._on_nan != "stop":
            return
        if (name := first_of(self._ranks, self._session.learning.not_finite())) is not None:
            raise NonFiniteLoss(
                f"The parameter '{name}' is not finite after {self._session.position.batches} batches, though the "
                f"loss still was. {_ADVICE}"
            )

    def _names(self) -> tuple[str, ...]:
        names = self._session.training_metrics.names()
        return ("loss",) if "loss" in names else names

    def _look_at(self, name: str) -> _Finding | None:
        session = self._session
        values = session.training_metrics.values(name)
        bad = ~torch.isfinite(values) & session.training_metrics.counted(name)
        checked = self._checked.get(name, 0)
        wrong = bad[checked:].nonzero().flatten().tolist()
        if not wrong:
            return None
        first = checked + wrong[0]
        batches, since = session.position.batches, session.position.reported
        every_batch = len(values) == batches - since
        where = self._where(since + first) if every_batch else f"one of the batches {since} to {batches - 1}"
        text = f"The {_spoken(name)} became {float(values[first])} in {where}."
        return _Finding(name, text, tuple(checked + index for index in wrong))

    def _of_all_ranks(self, found: list[_Finding]) -> list[_Finding]:
        """For each metric what the rank says that saw it first, and all batches in which one saw it."""
        if self._ranks.layout.size == 1:
            return found
        together: dict[str, _Finding] = {}
        for finding in (finding for findings in self._ranks.gather(found) for finding in findings):
            known = together.get(finding.metric, finding)
            earliest = min(known, finding, key=lambda either: either.batches[0])
            batches = tuple(sorted({*known.batches, *finding.batches}))
            together[finding.metric] = replace(earliest, batches=batches)
        return list(together.values())

    def _tell(self, finding: _Finding) -> None:
        if self._on_nan == "stop":
            raise NonFiniteLoss(f"{finding.text} {_ADVICE}")
        self._session.context.notice(
            f"{finding.text} It was so in {len(finding.batches)} batches; training goes on (on_nan: {self._on_nan})."
        )

    def _where(self, batch_idx: int) -> str:
        session = self._session
        position = session.position
        text = f"epoch_idx {position.epochs}, batch_idx {batch_idx}"
        if session.learning.manual:
            return text
        in_epoch = position.batch_in_epoch - (position.batches - batch_idx)
        step = position.steps_before_epoch + in_epoch // session.learning.frequency
        return f"{text}, optimizer step {step} (all counted from 0)"


_ADVICE = "A lower learning rate or `max_gradient_norm` often helps; `on_nan: skip` leaves such batches out."


def _spoken(name: str) -> str:
    return "loss" if name == "loss" else f"training metric '{name}'"

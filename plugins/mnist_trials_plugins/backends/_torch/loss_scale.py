"""What multiplies losses before the backward pass: a scale that is found out, a constant one, or none."""

from __future__ import annotations

from typing import final

import torch
from torch.amp.grad_scaler import GradScaler
from typing_extensions import override

from mnist_trials.config import LossScale


def make_scaler(device: torch.device, precision: str, scale: LossScale | None) -> GradScaler | None:
    """The scaler for `loss_scale: scale`; None where losses stay as they are. A scale of 1 is none."""
    if scale is None:
        scale = "dynamic" if precision == "fp16-mixed" else "none"
    if scale in ("none", 1.0):
        return None
    scaler = GradScaler(device.type) if isinstance(scale, str) else ConstantScaler(device.type, scale)
    scaler.scale(torch.zeros((), device=device))  # it begins with the first loss, which may be another rank's
    return scaler


@final
class ConstantScaler(GradScaler):
    """Scales by the same number always. Updates whose gradients are not finite are left out all the same."""

    def __init__(self, kind: str, scale: float) -> None:
        super().__init__(kind, init_scale=scale)
        self._constant = scale

    @override
    def update(self, new_scale: float | torch.Tensor | None = None) -> None:
        # An open group of a checkpoint may have another scale up to here.
        super().update(self._constant if new_scale is None else new_scale)

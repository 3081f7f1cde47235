"""In which precisions a device can compute."""

from __future__ import annotations

import torch

from mnist_trials.errors import PluginError
from mnist_trials_plugins.backends._shared import require_precision_name


def require_precision(device: torch.device, precision: str) -> None:
    """See that `precision` is to be had.

    Raises:
        PluginError: it is unknown, or `device` cannot compute in it; the text says what can be used.
    """
    require_precision_name(precision)
    if precision == "bf16-mixed" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise PluginError(
            f"{torch.cuda.get_device_name(device)} cannot compute in bfloat16. Use precision fp32 or fp16-mixed."
        )
    if precision == "fp16-mixed" and device.type == "cpu" and not _cpu_has_half():
        raise PluginError(
            f"torch {torch.__version__} cannot train in float16 on this CPU. Use precision fp32, bf16-mixed or "
            "bf16-true."
        )


def _cpu_has_half() -> bool:
    """Whether the operations of a small network exist in float16 on the CPU."""
    try:
        image = torch.ones(1, 1, 3, 3, dtype=torch.float16, requires_grad=True)
        weight = torch.ones(1, 1, 3, 3, dtype=torch.float16)
        torch.nn.functional.conv2d(image, weight).flatten(1).matmul(weight[0, 0, :1]).sum().backward()  # type: ignore[no-untyped-call]
    except RuntimeError:
        return False
    return True

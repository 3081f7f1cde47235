"""The XLA devices of this process."""

from __future__ import annotations

import importlib
import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mnist_trials.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


def take_device(count: int) -> torch.device:
    """The device that stands for all `count` of this process; several are driven as one (SPMD).

    To be called before anything is differentiated in the process: torch's autograd makes its threads then, one for each
    kind of device that it knows.

    Raises:
        PluginError: they are not to be had.
    """
    with without_remarks():
        import torch_xla

        xr: Any = importlib.import_module("torch_xla.runtime")  # it has no types
    try:
        if count > 1 and not xr.is_spmd():
            xr.use_spmd()
        device = torch_xla.device()
        there = xr.global_runtime_device_count() if count > 1 else count
    except Exception as error:  # whatever a PJRT plugin says
        raise PluginError(f"There is no XLA device of the kind {xr.device_type() or '(none)'} here: {error}") from error
    if there != count:
        raise PluginError(
            f"This process has {there} XLA devices, and {count} slots are to be theirs. All devices that a process "
            "has take part in what it computes: a variable has to hide the others, which `visible` beside the name of "
            "the backend names. (A process has as many for good as the first trial in it had.)"
        )
    return device


@contextmanager
def without_remarks() -> Iterator[None]:
    """Import parts of torch_xla without what they say of other libraries that they find, or do not find."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)

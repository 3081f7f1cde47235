"""The operations that torch carries out, counted as they are dispatched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, final

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from typing_extensions import override

from mnist_trials.plugin.inspection import StepReport

FLOPS_ARE: Final = (
    "two per multiply-add of matrix products, convolutions and attention, forward and backward; elementwise work is "
    "not counted"
)
BYTES_ARE: Final = (
    "what each operation reads and writes, its input and output tensors once each, as eager execution does it; views "
    "move nothing"
)


@final
class _Observer(TorchDispatchMode):
    """Counts operations below autograd, so those of backward passes and updates too."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: Counter[str] = Counter()
        self.bytes = 0

    @override
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.namespace == "profiler":  # marks that an optimizer's step leaves, which compute nothing
            return result
        self.operations[func.name()] += 1
        if not func.is_view:
            self.bytes += _size((args, kwargs)) + _size(result)
        return result


def observed(step: Callable[[], object], samples: int) -> StepReport:
    """Carry out `step`, on a batch of `samples` samples, and report what it consisted of."""
    counter = FlopCounterMode(display=False)
    observer = _Observer()
    with counter, observer:
        step()
    return StepReport(
        samples=samples,
        operations=dict(sorted(observer.operations.items())),
        flops=float(counter.get_total_flops()),
        bytes=float(observer.bytes),
    )


def _size(values: Any) -> int:
    return sum(leaf.nbytes for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor) and not leaf.is_sparse)

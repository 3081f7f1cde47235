"""Parameter files of the references, and what is made of them with some keys changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mnist_trials.mnist.params import Translation

FILES = {
    reference: Path(__file__).parent / "params" / f"{reference}.yaml" for reference in ("fc_mnist", "torch_linear")
}

Changed = Callable[..., Translation]

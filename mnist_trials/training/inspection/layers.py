"""What the layers of a torch model are given and give back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch.utils._pytree import tree_leaves

from mnist_trials.plugin.inspection import RAISED_IN, LayerReport, Shape


@final
class Layers:
    """Watches the forward passes of a model.

    The layers are the modules that have parameters of their own or no modules inside, in the order in which the model
    has them.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._open: list[tuple[str, torch.nn.Module, list[Shape]]] = []  # modules whose forward pass is under way
        self._seen: dict[str, tuple[list[Shape], list[Shape]]] = {}
        self._calls: dict[str, int] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The time in which forward passes are noted down.

        An exception that comes out of a layer has a note that names it (see `BaseException.add_note`).
        """
        handles = []
        for name, module in self._model.named_modules():
            handles.append(module.register_forward_pre_hook(self._entering(name), with_kwargs=True))
            handles.append(module.register_forward_hook(self._leaving(name)))
        try:
            yield
        except Exception as error:
            if self._open:
                error.add_note(self._failure())
            raise
        finally:
            for handle in handles:
                handle.remove()
            self._open.clear()

    def _entering(self, name: str) -> Any:
        def enter(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
            self._open.append((name, module, _shapes((args, kwargs))))

        return enter

    def _leaving(self, name: str) -> Any:
        def leave(module: torch.nn.Module, args: Any, output: Any) -> None:
            _, _, inputs = self._open.pop()
            self._seen.setdefault(name, (inputs, _shapes(output)))
            self._calls[name] = self._calls.get(name, 0) + 1

        return leave

    def _failure(self) -> str:
        name, module, inputs = self._open[-1]
        layer = f"layer '{name}' ({_described(module)})" if name else f"the model itself ({type(module).__name__})"
        given = " and ".join(shape_text(shape) for shape in inputs) or "no tensor"
        return f"{RAISED_IN} {layer}, which was given {given}."

    def reports(self) -> list[LayerReport]:
        """What was seen so far."""
        return [_report(name, module, self) for name, module in self._model.named_modules() if _is_layer(module)]

    def shapes(self, name: str) -> tuple[list[Shape], list[Shape]]:
        """What module `name` was given and gave back at its first call."""
        return self._seen.get(name, ([], []))

    def calls(self, name: str) -> int:
        """How often module `name` was called."""
        return self._calls.get(name, 0)


def shape_text(shape: Shape) -> str:
    """`64 x 1 x 28 x 28`; `a scalar` for one without dimensions."""
    return " x ".join(map(str, shape)) or "a scalar"


def _is_layer(module: torch.nn.Module) -> bool:
    own = next(module.parameters(recurse=False), None) is not None
    return own or next(module.children(), None) is None


def _report(name: str, module: torch.nn.Module, layers: Layers) -> LayerReport:
    inputs, outputs = layers.shapes(name)
    parameters = list(module.parameters(recurse=False))
    return LayerReport(
        name=name,
        kind=type(module).__name__,
        inputs=inputs,
        outputs=outputs,
        calls=layers.calls(name),
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
    )


def _described(module: torch.nn.Module) -> str:
    """As torch prints it where that is one line, such as `Linear(in_features=4, out_features=2, bias=True)`."""
    text = repr(module)
    return text if "\n" not in text else type(module).__name__


def _shapes(value: Any) -> list[Shape]:
    return [tuple(leaf.shape) for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]

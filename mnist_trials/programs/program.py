"""A program for use in Python: captured once, attached to a device, run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, final

import torch

from mnist_trials.errors import ProgramError
from mnist_trials.programs.graph import Graph
from mnist_trials.programs.specs import TensorSpec, device_of

if TYPE_CHECKING:
    from mnist_trials.programs.session import ProgramSession

Tensors = Mapping[str, torch.Tensor]


@final
class Program:
    """A static program with named inputs and outputs, and a state that it changes in place.

    Made by `mt.capture` or `Program.load`. Between two sessions the state lies here, on the CPU.

    Attributes:
        name: what errors call it.
        settings: inputs that have a value unless a run gives them another one, such as `learning_rate`.
    """

    def __init__(
        self,
        graph: Graph,
        state: Tensors,
        weights: Sequence[str],
        settings: Mapping[str, float],
        gradients: Callable[[Sequence[str]], Program] | None = None,
        elsewhere: Callable[[torch.device], Graph] | None = None,
    ) -> None:
        """`weights` are the names in `state` that are those of the model; the runtime's own.

        `gradients` makes the program that `grad` gives, and `elsewhere` captures this one for another kind of device;
        a program that was loaded has neither.
        """
        self.graph = graph
        self.name = graph.name
        self.settings = dict(settings)
        self.session: ProgramSession | None = None  # while it is attached
        self._state = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
        self._weights = tuple(weights)
        self._gradients = gradients
        self._elsewhere = elsewhere

    @property
    def inputs(self) -> dict[str, TensorSpec]:
        """What every run must be given, by name."""
        return {name: spec for name, spec in self.graph.inputs.items() if name not in self.settings}

    @property
    def outputs(self) -> dict[str, TensorSpec]:
        """What every run gives, by name."""
        return dict(self.graph.outputs)

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """All of its state by name, as it is now: copies, on the CPU."""
        now = self._state if self.session is None else self.session.state
        return {name: tensor.detach().cpu().clone() for name, tensor in now.items()}

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers of its model by name, as they are now: copies, on the CPU."""
        return {name: tensor for name, tensor in self.state.items() if name in self._weights}

    def load_weights(self, weights: Tensors) -> None:
        """Take over parameters and buffers by name, such as another program's `weights`; all of them, and no others.

        Raises:
            ProgramError: a name is missing or unknown, or a shape or dtype differs; the text lists them all.
        """
        self._require_detached("load_weights")
        if not isinstance(weights, Mapping):
            raise ProgramError(f"load_weights takes a dict of tensors by name, not {type(weights).__name__}.")
        wrong = [
            *(f"'{name}' is missing" for name in self._weights if name not in weights),
            *(f"'{name}' is none of its own" for name in weights if name not in self._weights),
            *(
                f"'{name}' is {_described(weights[name])} and should be {TensorSpec.of(self._state[name])}"
                for name in self._weights
                if name in weights and not _alike(weights[name], self._state[name])
            ),
        ]
        if wrong:
            raise ProgramError(f"These weights do not fit the program '{self.name}': {'; '.join(wrong)}.")
        for name in self._weights:
            self._state[name].copy_(weights[name])

    def attach(self, device: torch.device | str = "cpu") -> ProgramSession:
        """The time on a device, as a context manager: the state goes there, and comes back at its end.

        It is compiled at its beginning, unless that was done before; where that cannot be, it runs as it was captured,
        operation by operation, and `session.executable` says why.

        Raises:
            ProgramError: it is attached already, or was loaded and is for another kind of device.
        """
        from mnist_trials.programs.session import ProgramSession

        self._require_detached("attach")
        place = device_of(device)
        if place.type != self.graph.device:
            if self._elsewhere is None:
                raise ProgramError(
                    f"The program '{self.name}' was captured for {self.graph.device}, not for {place.type}, and what "
                    "it was captured from is not here any more. Capture it anew for that device."
                )
            self.graph = self._elsewhere(place)
        return ProgramSession(self, place)

    def grad(self, wrt: Sequence[str]) -> Program:
        """A program of the same function that gives gradients of its loss as well: `grad.NAME` for each name in `wrt`.

        `wrt` names parameters or inputs. What only other gradients need is not computed. Its weights are those of this
        program as they are now.

        Raises:
            ProgramError: a name is unknown, there is no loss, or the program was loaded from a file.
        """
        if self._gradients is None:
            raise ProgramError(
                f"The program '{self.name}' was loaded, or has no loss: its gradients cannot be captured any more. "
                "Capture a function that gives a loss."
            )
        if isinstance(wrt, str) or not wrt:
            raise ProgramError(f"grad takes a list of names of parameters or inputs, such as ['images']; not {wrt!r}.")
        derived = self._gradients(tuple(wrt))
        if derived._weights:
            derived.load_weights(self.weights)
        return derived

    def operations(self) -> dict[str, int]:
        """How often each operation is in it, by name, the most frequent first."""
        return self.graph.operations()

    def text(self) -> str:
        """What it takes, does and gives, one operation a line."""
        return self.graph.text()

    def save(self, folder: str | Path) -> None:
        """Write it with its state into `folder`, which is made and must not exist.

        Raises:
            ProgramError: the folder cannot be written, or exists.
        """
        from mnist_trials.programs.files import save

        save(self.graph, self.state, self._weights, self.settings, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> Program:
        """A program that `save` wrote. Every file is verified; nothing is unpickled.

        Raises:
            ProgramError: it is no such folder, or damaged.
        """
        from mnist_trials.programs.files import load

        graph, state, weights, settings = load(Path(folder))
        return cls(graph, state, weights, settings)

    def take_back(self, state: Tensors) -> None:
        """Called by a session that ends: the state as it left it."""
        for name, tensor in state.items():
            self._state[name].copy_(tensor)
        self.session = None

    def _require_detached(self, what: str) -> None:
        if self.session is not None:
            raise ProgramError(
                f"The program '{self.name}' is attached to {self.session.device}. End that `with` block before {what}."
            )


def _described(value: object) -> str:
    return str(TensorSpec.of(value)) if isinstance(value, torch.Tensor) else f"{value!r}"


def _alike(given: object, own: torch.Tensor) -> bool:
    return isinstance(given, torch.Tensor) and given.shape == own.shape and given.dtype is own.dtype

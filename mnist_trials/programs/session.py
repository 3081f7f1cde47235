"""A program on a device: its state lives there, batches go to it ahead of time, results come back without waiting."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import TracebackType
from typing import Any, final

import torch
from typing_extensions import override

from mnist_trials.errors import ProgramError
from mnist_trials.programs.cache import Executable, ProgramCache
from mnist_trials.programs.program import Program
from mnist_trials.programs.specs import taken

Outputs = torch.Tensor | dict[str, torch.Tensor]
"""The output of a program that has one; else all of them by name."""


@final
class ProgramSession:
    """The time of a program on a device; made by `Program.attach`, used in a `with` block.

    Attributes:
        device: where it is.
        state: the tensors of the state by name, on the device. Runs change them in place.
        settings: the inputs that need not be given, by name, and their values; change them at any time.
    """

    def __init__(self, program: Program, device: torch.device) -> None:
        self.device = device
        self.state: dict[str, torch.Tensor] = {}
        self.settings: MutableMapping[str, float] = _Settings(program.name, program.settings)
        self._program = program
        self._executable: Executable | None = None
        self._tensors: list[torch.Tensor] = []  # state and what the program holds
        self._set: dict[str, tuple[float, torch.Tensor]] = {}  # settings on the device, and their values there

    def __enter__(self) -> ProgramSession:
        program, graph = self._program, self._program.graph
        if program.session is not None:
            raise ProgramError(f"The program '{program.name}' is attached already; a session is entered once.")
        self._executable = ProgramCache().obtain(graph)
        values = program.state
        self.state = {name: spec.empty(self.device).copy_(values[name]) for name, spec in graph.state.items()}
        self._tensors = graph.flat(self.state, ())
        program.session = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._program.take_back(self.state)
        self._executable = None

    @property
    def executable(self) -> Executable:
        """What is run: whether it is compiled, was built now or before, and how long that took.

        Raises:
            ProgramError: outside of the `with` block.
        """
        if self._executable is None:
            raise ProgramError(
                f"The program '{self._program.name}' is not attached: use `with program.attach(device) as session:`."
            )
        return self._executable

    def run(self, *inputs: Any, **by_name: Any) -> Outputs:
        """Run the program once; inputs in order or by name, each a tensor, an array or a number.

        Returns the output, or a dict of them where there are several. They are on the device; nothing waits for it.

        Raises:
            ProgramError: an input is missing, unknown, or not of the shape and dtype that the program was captured for.
        """
        return self._named(self._launch(self._checked(inputs, by_name)))

    def stream(self, batches: Iterable[Any]) -> Iterator[Outputs]:
        """Run the program on each of `batches`, a tuple in order or a map by name; gives the outputs on the CPU.

        The next batch is fetched and sent to the device while it is busy with the one before, and the outputs of a
        batch are given when those of the next one are under way: so neither side waits for the other.

        Raises:
            ProgramError: as `run`.
        """
        pending: _Fetch | None = None
        for inputs in self._sent_ahead(iter(batches)):
            fetch = _Fetch.of(self._launch(inputs), self.device)
            if pending is not None:
                yield self._named(pending.outputs())
            pending = fetch
        if pending is not None:
            yield self._named(pending.outputs())

    def _sent_ahead(self, batches: Iterator[Any]) -> Iterator[list[torch.Tensor]]:
        """The inputs of each batch; those of the next one are on their way by then."""
        ahead: list[torch.Tensor] | None = None
        for batch in batches:
            ready, ahead = ahead, self._begin(batch)
            if ready is not None:
                yield ready
        if ahead is not None:
            yield ahead

    def _begin(self, batch: Any) -> list[torch.Tensor]:
        if isinstance(batch, Mapping):
            return self._checked((), batch)
        return self._checked(batch if isinstance(batch, tuple | list) else (batch,), {})

    def _checked(self, inputs: Any, by_name: Mapping[str, Any]) -> list[torch.Tensor]:
        """The inputs on the device, in order, settings among them."""
        program = self._program
        given = taken(program.name, program.graph.inputs, program.settings, inputs, by_name)
        return [
            self._on_device(given[name]) if name in given else self._setting(name, spec.dtype)
            for name, spec in program.graph.inputs.items()
        ]

    def _on_device(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.device.type != "cuda" or tensor.device.type == "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def _setting(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        value = float(self.settings[name])
        known = self._set.get(name)
        if known is None or known[0] != value:
            known = self._set[name] = (value, torch.tensor(value, dtype=dtype, device=self.device))
        return known[1]

    def _launch(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        return list(self.executable.run([*self._tensors, *inputs]))

    def _named(self, outputs: list[torch.Tensor]) -> Outputs:
        names = self._program.graph.outputs
        return outputs[0] if len(outputs) == 1 else dict(zip(names, outputs, strict=True))


@final
class _Settings(UserDict[str, float]):
    """Values by name, of the settings that a program has."""

    def __init__(self, program: str, settings: Mapping[str, float]) -> None:
        self._program = program
        self._known = tuple(settings)
        super().__init__(settings)

    @override
    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self._known:
            close = get_close_matches(name, self._known, 1)
            meant = f" Did you mean '{close[0]}'?" if close else ""
            raise ProgramError(
                f"The program '{self._program}' has no setting '{name}'.{meant} It has: "
                f"{', '.join(self._known) or 'none'}."
            )
        if isinstance(value, str) or not hasattr(value, "__float__"):
            raise ProgramError(f"The setting '{name}' of the program '{self._program}' is a number, not {value!r}.")
        self.data[name] = float(value)


@final
@dataclass(frozen=True, slots=True)
class _Fetch:
    """Outputs on their way to the CPU."""

    tensors: list[torch.Tensor]
    arrived: torch.cuda.Event | None

    @classmethod
    def of(cls, outputs: list[torch.Tensor], device: torch.device) -> _Fetch:
        if device.type != "cuda":
            return cls(outputs, None)
        copies = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in outputs]
        for copy, tensor in zip(copies, outputs, strict=True):
            copy.copy_(tensor, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(device))  # type: ignore[no-untyped-call]
        return cls(copies, event)

    def outputs(self) -> list[torch.Tensor]:
        """The outputs, once they are there."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.tensors

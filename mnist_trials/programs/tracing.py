"""Runs a function on tensors without values and writes down every operation."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import fx

from mnist_trials.errors import MnistTrialsError, ProgramError

Traced = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
"""Takes named tensors and gives named tensors; may change those it takes in place."""

HELD: Final = "held."
"""What the names of tensors begin with that a function uses without being given them."""

_RECURRENT: Final = "aten.mkldnn_rnn_layer"
"""A layer of an LSTM as a whole, whose backward pass works within autograd only. Without, it is plain operations."""

_SEEDING: Final = ("set_rng_state", "manual_seed", "seed")
_DYNAMO: Final = Path(torch.__file__).parent / "_dynamo"
_STANDARD: Final = Path(traceback.__file__).parent
_OWN: Final = Path(__file__).parent.parent
_NOT_THE_USERS: Final = (Path(torch.__file__).parent, _OWN / "programs", _OWN / "training")


def trace(
    program: str, function: Traced, given: Mapping[str, torch.Tensor]
) -> tuple[fx.GraphModule, dict[str, torch.Tensor], list[str]]:
    """The operations of `function` on tensors like `given`, whose values are not looked at.

    Returns a module that takes the tensors in the order of `given` and then those that the function has of its own
    (`self.weights_of_classes`), these tensors by name, and the names of its outputs, which come in a tuple.

    Raises:
        ProgramError: the function looks at a value, or does what else no program can; the text names the line.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    names, outputs = list(given), list[str]()

    def flat(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        results = function(dict(zip(names, tensors, strict=True)))
        outputs[:] = results
        return tuple(results.values())

    def traced() -> fx.GraphModule:
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        with telling_the_line(program), _quiet(), _random_state_left_alone(program):
            fakes = [mode.from_tensor(tensor.detach(), static_shapes=True) for tensor in given.values()]
            return make_fx(flat, _allow_non_fake_inputs=True)(*fakes)

    module = traced()
    if any(str(node.target).startswith(_RECURRENT) for node in module.graph.nodes):
        with _plain_operations():
            module = traced()
    held = _constants_as_inputs(module)
    _without_marks(module)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module, held, outputs


def _constants_as_inputs(module: fx.GraphModule) -> dict[str, torch.Tensor]:
    """Give `module` as further inputs the tensors that it holds, so that it uses them as they are when it runs."""
    graph, held = module.graph, dict[str, torch.Tensor]()
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    made: dict[str, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op != "get_attr":
            continue
        if node.target not in made:
            tensor = getattr(module, node.target)
            with graph.inserting_after(last):
                last = graph.placeholder(f"held_{len(held)}")
            last.meta = dict(node.meta)
            made[node.target] = last
            held[f"{HELD}{len(held)}"] = tensor
        node.replace_all_uses_with(made[node.target])
        graph.erase_node(node)
    for target in made:
        delattr(module, str(target))  # or torch.export would write it into the file of the graph
    return held


def _without_marks(module: fx.GraphModule) -> None:
    """Take out what was there for autograd alone: a program is run without."""
    for node in list(module.graph.nodes):
        if node.target is torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)


@contextmanager
def telling_the_line(program: str) -> Iterator[None]:
    """Errors in a `with` block as ProgramErrors that name the line of the user's code."""
    from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

    needs_values = (DataDependentOutputException, DynamicOutputShapeException, GuardOnDataDependentSymNode)
    try:
        yield
    except MnistTrialsError:
        raise
    except needs_values as error:
        raise ProgramError(
            f"The program '{program}' cannot be captured: {line_of(error)} needs the value of a tensor (as .item(), "
            "float(), .tolist(), print, `if tensor:`, a boolean mask as an index or .nonzero() do), and a program has "
            "none while it is captured. Use torch.where or torch.clamp instead of `if`, return metrics as tensors; "
            "or use `compile: true`."
        ) from error
    except Exception as error:
        raise ProgramError(
            f"The program '{program}' cannot be captured: {line_of(error)} failed on tensors without values: "
            f"{type(error).__name__}: {_first_line(error)}"
        ) from error


def line_of(error: BaseException) -> str:
    """The innermost line of the user's own code on the way to `error`: file, number, and what stands there."""
    return _users(traceback.extract_tb(error.__traceback__))


def _within_capture(stack: Sequence[traceback.FrameSummary]) -> Sequence[traceback.FrameSummary]:
    last = max((index for index, frame in enumerate(stack) if frame.filename == __file__), default=0)
    return stack[last:]


def _users(frames: Sequence[traceback.FrameSummary]) -> str:
    own = [frame for frame in frames if frame.line and not _is_not_the_users(Path(frame.filename))]
    return place_of(own[-1]) if own else "a step of the runtime"


def _is_not_the_users(path: Path) -> bool:
    standard = path.is_relative_to(_STANDARD) and "site-packages" not in path.parts
    return standard or any(path.is_relative_to(folder) for folder in _NOT_THE_USERS)


def place_of(frame: traceback.FrameSummary) -> str:
    """A frame as a person reads it."""
    return f"{frame.filename}:{frame.lineno} (`{frame.line}`)"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "no more is said")[:300]


@contextmanager
def _plain_operations() -> Iterator[None]:
    """While torch takes none of the library oneDNN for what it could do without."""
    enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(enabled)


@contextmanager
def _random_state_left_alone(program: str) -> Iterator[None]:
    """While nobody may set the state of torch's generator: in a program that would be done once, for the capture."""

    def refusing(function: Callable[..., Any]) -> Callable[..., Any]:
        def refuse(*args: Any, **kwargs: Any) -> Any:
            stack = traceback.extract_stack()[:-1]
            if Path(stack[-1].filename).is_relative_to(_DYNAMO):  # which leaves it as it was
                return function(*args, **kwargs)
            raise ProgramError(
                f"The program '{program}' cannot be captured: {_users(_within_capture(stack))} sets the state of "
                "torch's random numbers (as torch.manual_seed, torch.random.fork_rng and torch.utils.checkpoint do; "
                "the last takes preserve_rng_state=False where nothing in it is random). A program would do that once, "
                "and not for each batch. Leave it out, or use `compile: true`."
            )

        return refuse

    kept = {(place, name): getattr(place, name) for place in (torch, torch.random) for name in _SEEDING}
    for (place, name), function in kept.items():
        setattr(place, name, refusing(function))
    try:
        yield
    finally:
        for (place, name), function in kept.items():
            setattr(place, name, function)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch warns of its own ways while it traces."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.")
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")
        yield


def names_of(parameters: Sequence[torch.nn.Parameter], module: torch.nn.Module) -> dict[torch.Tensor, str]:
    """The dotted name in `module` of each of `parameters`.

    Raises:
        ProgramError: one is none of the module's.
    """
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    if any(parameter not in names for parameter in parameters):
        raise ProgramError(
            "The optimizer updates a parameter that is no part of the model, which a program would not know how to "
            "name. Make it a parameter of the model."
        )
    return names

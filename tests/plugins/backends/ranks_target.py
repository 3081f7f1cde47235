"""What one rank of the tests in test_ranks.py does: python ranks_target.py TASK RANK DATA TENSOR SHARD FOLDER."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import torch

from mnist_trials.config import Mesh
from mnist_trials.errors import PluginError, TrialError
from mnist_trials.plugin import Execution, ExecutionSettings, Layout, Rules
from mnist_trials.testing import backend_ranks
from mnist_trials_plugins.backends.cpu import CpuBackend

RULES: Rules = {
    r"0\.weight": (None, "tensor"),
    r"2\.weight": (None, "tensor"),
    r"4\.weight": ("tensor", None),
    r"4\.bias": ("tensor",),
    r"6\.weight": (None, "tensor"),
    r"7\.weight": ("tensor", None),
}
STEPS = 5


def opened(precision: str = "fp32", rank: int | None = None) -> Execution:
    _, given, data, tensor, shard, folder = sys.argv[1:]
    slot = replace(CpuBackend({}).slots(1)[0], threads=1)
    layout = Layout(
        rank=int(given) if rank is None else rank,
        mesh=Mesh(data=int(data), tensor=int(tensor)),
        shard=shard == "shard",
        rendezvous=(Path(folder) / "rendezvous").as_uri(),
        start_seconds=120,
    )
    return CpuBackend({}).open(
        ExecutionSettings(slots=(slot,), precision=precision, compile=False, deterministic=False, seed=3, layout=layout)
    )


def whole(execution: Execution, tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` from its pieces, which torch would put together alike."""
    together = backend_ranks.whole(execution.spread(tensor), execution.ranks)
    if hasattr(tensor, "full_tensor"):
        assert torch.equal(together, tensor.detach().full_tensor())
    return together


def model() -> torch.nn.Sequential:
    torch.manual_seed(1)
    nn = torch.nn
    head = (nn.Embedding(8, 16), nn.Flatten(), nn.Linear(32, 16), nn.ReLU())
    return nn.Sequential(*head, nn.Linear(16, 12), nn.GELU(), nn.Linear(12, 10), nn.Linear(10, 4))


def loss_of(stack: torch.nn.Module, words: torch.Tensor, labels: torch.Tensor, half: bool) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.float16) if half else nullcontext():
        return torch.nn.functional.cross_entropy(stack(words), labels)


def compare(precision: str) -> None:
    """Train on the mesh and beside it, alone, with clipping and an optimizer with a state."""
    execution = opened(precision)
    layout = execution.ranks.layout
    half = precision == "fp16-mixed"
    alone, spread = model(), execution.prepare(model(), RULES if layout.mesh.tensor > 1 else {})
    names = [name for name, _ in alone.named_parameters()]
    assert [name for name, _ in spread.named_parameters()] == names
    first, second = (torch.optim.AdamW(m.parameters(), lr=0.01, weight_decay=0.1) for m in (alone, spread))
    drawn = torch.Generator().manual_seed(5)
    words, labels = torch.randint(0, 8, (12, 2), generator=drawn), torch.randint(0, 4, (12,), generator=drawn)
    share = 12 // layout.mesh.data
    mine = slice(layout.data_rank * share, (layout.data_rank + 1) * share)
    parameters = list(spread.parameters())
    for _ in range(STEPS):
        loss_of(alone, words, labels, half).backward()
        torch.nn.utils.clip_grad_norm_(alone.parameters(), 0.1)
        first.step()
        first.zero_grad()
        execution.backward(loss_of(spread, words[mine], labels[mine], half))
        execution.average_gradients(parameters)
        execution.unscale(second)
        execution.clip_gradients(parameters, 0.1)
        execution.step(second)
        second.zero_grad()
    for name, tensor in spread.state_dict().items():
        together = whole(execution, tensor)
        torch.testing.assert_close(together, alone.state_dict()[name], atol=5e-3 if half else 1e-5, rtol=1e-3)
        part = execution.part(together, tensor)
        assert type(part) is type(tensor)
        assert torch.equal(whole(execution, part), together)
    moments = [v for state in second.state_dict()["state"].values() for v in state.values() if v.dim() > 0]
    assert [whole(execution, m).shape for m in moments[::2]] == [p.shape for p in alone.parameters()]
    if half:
        skip_together(execution, spread, second, words[mine], labels[mine])
    execution.close()


def skip_together(
    execution: Execution,
    spread: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    words: torch.Tensor,
    labels: torch.Tensor,
) -> None:
    """A gradient that overflows in the part of one rank keeps all ranks from updating."""
    before = {name: whole(execution, tensor).clone() for name, tensor in spread.state_dict().items()}
    scale = execution.state_dict()["scaler"]["scale"]
    execution.backward(loss_of(spread, words, labels, half=True))
    parameters = list(spread.parameters())
    execution.average_gradients(parameters)
    if execution.ranks.layout.rank == 1:
        gradient = parameters[1].grad
        assert gradient is not None
        gradient.to_local().fill_(torch.inf)  # type: ignore[attr-defined]
    execution.step(optimizer)
    assert all(torch.equal(whole(execution, tensor), before[name]) for name, tensor in spread.state_dict().items())
    assert execution.ranks.gather(execution.state_dict()["scaler"]["scale"]) == [scale / 2] * 2


def gradients() -> None:
    """Gradients of every kind: missing on one rank, on all, sparse, in bfloat16, of odd strides, kept."""
    execution = opened()
    rank = execution.ranks.layout.rank
    make = torch.nn.Parameter
    both, one, none = make(torch.ones(2, 3)), make(torch.ones(3)), make(torch.ones(2))
    sparse, coarse = make(torch.ones(4, 2)), make(torch.ones(5, dtype=torch.bfloat16))
    strided = make(torch.ones(2, 3, 2, 2).to(memory_format=torch.channels_last))
    parameters = [both, one, none, sparse, coarse, strided]
    both.grad = torch.arange(6.0).view(3, 2).t() * (rank + 1)
    coarse.grad = torch.full((5,), 1.0 + 2 * rank, dtype=torch.bfloat16)
    strided.grad = torch.arange(24.0).view(2, 3, 2, 2) * (1 - 2 * rank)
    if rank == 1:
        one.grad = torch.full((3,), 4.0)
        sparse.grad = torch.sparse_coo_tensor([[2]], [[6.0, 8.0]], (4, 2), check_invariants=True)
    execution.average_gradients(parameters)
    assert both.grad.tolist() == (torch.arange(6.0).view(3, 2).t() * 1.5).tolist()
    assert one.grad is not None
    assert one.grad.tolist() == [2.0] * 3
    assert none.grad is None
    assert sparse.grad is not None
    assert sparse.grad.is_sparse
    assert sparse.grad.coalesce().indices().tolist() == [[2]]
    assert sparse.grad.to_dense()[2].tolist() == [3.0, 4.0]
    assert coarse.grad.tolist() == [2.0] * 5
    assert not strided.grad.any()
    assert strided.grad.stride() == strided.stride()
    both.grad.add_(float(rank))  # a backward pass that adds to what is kept from the last update
    execution.average_gradients(parameters)
    assert both.grad.tolist() == (torch.arange(6.0).view(3, 2).t() * 1.5 + 0.5).tolist()
    execution.average_gradients([both])  # others than before
    assert both.grad.tolist() == (torch.arange(6.0).view(3, 2).t() * 1.5 + 0.5).tolist()
    refusals(execution)
    execution.close()
    again = opened()  # a script may
    assert again.ranks.sum(1.0) == 2.0
    again.close()


def refusals(execution: Execution) -> None:
    """What is no trial of several ranks is refused, on every rank."""
    rank = execution.ranks.layout.rank
    _expect(
        TrialError,
        f"0.weight (2, 4) torch.float32 on rank 0, 0.weight ({'2, 5'}) torch.float32",
        lambda: execution.prepare(torch.nn.Sequential(torch.nn.Linear(4 + rank, 2)), {}),
    )
    # The default process group is taken by now, as if the script had made it.
    _expect(
        PluginError,
        f"is rank {rank} of 2 there; in its trial it is rank {1 - rank} of 2",
        lambda: opened(rank=1 - rank),
    )


def _expect(kind: type[Exception], text: str, act: Callable[[], object]) -> None:
    said = ""
    try:
        act()
    except kind as error:
        said = str(error)
    assert text in said, said


def leaves() -> None:
    """The interpreter ends while a thread waits for a rank that has said nothing, and does so too."""
    execution = opened()
    ranks = execution.ranks
    line = ranks.line
    assert line is not None
    waiting = Event()

    def wait() -> None:
        waiting.set()
        with suppress(RuntimeError):
            line.receive(torch.zeros(3), 1 - ranks.layout.rank)

    Thread(target=wait, daemon=True).start()
    assert waiting.wait(60)
    with suppress(RuntimeError):  # the other one may have come to its end already
        ranks.gather("both wait")


if __name__ == "__main__":
    if sys.argv[1] == "gradients":
        gradients()
    elif sys.argv[1] == "leaves":
        leaves()
    else:
        compare(sys.argv[1])

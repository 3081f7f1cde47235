"""What `BackendSuite` has several ranks do; each is a process of its own: python -m mnist_trials.testing.backend_ranks.

It reads one JSON document from standard input and writes what it found to the document's `report`. Nothing heavy is
imported before that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from mnist_trials.config import Mesh
from mnist_trials.errors import RanksMissing
from mnist_trials.plugin import Backend, Execution, ExecutionSettings, Layout, Ranks, Spread, get_plugins

if TYPE_CHECKING:
    import torch

RULES = {r"0\.weight": ("tensor", None), r"3\.weight": (None, "tensor")}
"""Those of the model that is trained, `made_model`."""

SAMPLES = 8
STEPS = 5
LEARNING_RATE = 0.5
MAX_NORM = 0.1


def start(
    backend: Backend, plugin: Mapping[str, Any], mesh: tuple[int, int], folder: Path, **more: Any
) -> list[subprocess.Popen[bytes]]:
    """One process for each rank of `mesh` except those in `more["absent"]`; rank n reports to `folder`/n.json."""
    slots = backend.slots(None)
    absent = more.pop("absent", ())
    started = []
    for rank in range(mesh[0] * mesh[1]):
        if rank in absent:
            continue
        slot = slots[rank % len(slots)]
        document = {
            **plugin,
            **more,
            "rank": rank,
            "slot": slot.index,
            "mesh": mesh,
            "rendezvous": (folder / "rendezvous").as_uri(),
            "report": str(folder / f"{rank}.json"),
        }
        variables = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo", **os.environ}
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            env={**variables, **backend.environment((replace(slot, threads=1),))},
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(document).encode())
        process.stdin.close()
        started.append(process)
    return started


def main() -> None:
    """Be one rank."""
    document = json.load(sys.stdin)
    report: dict[str, Any] = {}
    try:
        execution = _opened(document)
    except RanksMissing as error:
        report["refused"] = str(error)
    else:
        report |= _line(execution) | trained(execution) | _of_its_own(execution) | _tensors(execution.ranks)
        report["lost"] = _loss_of_others(execution)
    Path(document["report"]).write_text(json.dumps(report), encoding="utf-8")
    os._exit(
        0
    )  # the end of an interpreter that has lost its peers and not closed their group may be an abort of gloo's


def _opened(document: Mapping[str, Any]) -> Execution:
    backend: Backend = get_plugins().find("backend", document["plugin"]).factory(document["options"])
    data, tensor = document["mesh"]
    layout = Layout(
        rank=document["rank"],
        mesh=Mesh(data=data, tensor=tensor),
        shard=document.get("shard", False),
        rendezvous=document["rendezvous"],
        start_seconds=document["start_seconds"],
    )
    slot = replace(backend.slots(None)[document["slot"]], threads=1)
    return backend.open(
        ExecutionSettings(slots=(slot,), precision="fp32", compile=False, deterministic=False, seed=3, layout=layout)
    )


def _line(execution: Execution) -> dict[str, Any]:
    """What the ranks hear of each other."""
    ranks = execution.ranks
    rank = ranks.layout.rank
    wait = ranks.post(100 + rank)
    return {
        "gathered": ranks.gather({"rank": rank, "nothing": None}),
        "shared": ranks.share(f"word of {rank}"),
        "sum": ranks.sum(ranks.layout.data_rank + 0.5),
        "posted": wait(),
    }


def _tensors(ranks: Ranks) -> dict[str, Any]:
    """What goes from rank 0 to each other one and back, and what whoever waits hears when the line is closed."""
    import torch

    line, rank, size = ranks.line, ranks.layout.rank, ranks.layout.size
    if line is None:
        return {}
    carried, told = torch.zeros(2, 3), torch.zeros((), dtype=torch.bfloat16)
    for other in range(1, size):
        if rank == 0:
            line.send(torch.full((2, 3), float(other)), other)
            line.receive(carried[1], other)
        elif rank == other:
            line.receive(carried, 0)
            line.send(carried[0] * 2, 0)
    heard: list[str] = []
    thread = Thread(target=lambda: heard.append(_failure_of(lambda: line.receive(told, int(rank == 0)))))
    thread.start()
    ranks.gather("all have started to wait")
    if rank:
        line.close()
    thread.join()
    line.close()
    after = _failure_of(lambda: line.send(told, int(rank == 0)))
    return {"carried": carried.tolist(), "heard": heard, "after": after, "still": ranks.gather(rank)}


def _failure_of(act: Callable[[], object]) -> str:
    try:
        act()
    except RuntimeError as error:
        return str(error)
    return ""


def made_model(seed: int) -> torch.nn.Sequential:
    """A small model; the last layer takes no part in the loss."""
    import torch

    linear = torch.nn.Linear
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            *(linear(4, 8), torch.nn.Tanh(), torch.nn.Identity()),
            *(linear(8, 4), torch.nn.BatchNorm1d(4), linear(4, 2)),
        )


def trained(execution: Execution) -> dict[str, Any]:
    """Some steps on this rank's share of one batch, from a model that each rank has drawn with a seed of its own."""
    import torch

    layout = execution.ranks.layout
    model = made_model(layout.rank)
    execution.prepare(model, RULES if layout.mesh.tensor > 1 else {})
    model[4].eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, weight_decay=0.1)
    parameters = list(model.parameters())
    for share in _shares(layout):
        inputs, targets = execution.to_device(share)
        execution.backward(torch.nn.functional.mse_loss(model[:5](inputs), targets))
        execution.average_gradients(parameters)
        execution.unscale(optimizer)
        execution.clip_gradients(parameters, MAX_NORM)
        execution.step(optimizer)
        optimizer.zero_grad()
    held = model.state_dict()
    weights = {name: whole(execution.spread(tensor), execution.ranks).cpu() for name, tensor in held.items()}
    parts = {name: execution.part(weights[name], held[name]) for name in held}
    return {
        "weights": {name: tensor.tolist() for name, tensor in weights.items()},
        "elements": sum(_local(parameter).numel() for parameter in parameters),
        "parts_fit": all(torch.equal(_local(parts[name]), _local(held[name])) for name in held),
    }


def whole(tensor: torch.Tensor | Spread, ranks: Ranks) -> torch.Tensor:
    """What `Execution.spread` gave, put together from the pieces that rank 0 names; on every rank. A collective."""
    import torch

    if not isinstance(tensor, Spread):
        return tensor
    everyones = ranks.gather(replace(tensor, own=None if tensor.own is None else tensor.own.detach().cpu()))
    together = torch.full(tensor.shape, -1, dtype=torch.int64).to(tensor.dtype)
    given = torch.zeros(tensor.shape, dtype=torch.int64)
    for piece in everyones[0].pieces:
        together[piece.place] = everyones[piece.rank].own
        given[piece.place] += 1
    assert (given == 1).all()
    return together


def _shares(layout: Layout) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    import torch

    drawn = torch.Generator().manual_seed(7)
    share = SAMPLES // layout.mesh.data
    mine = slice(layout.data_rank * share, (layout.data_rank + 1) * share)
    for _ in range(STEPS):
        inputs = torch.randn(SAMPLES, 4, generator=drawn)
        yield inputs[mine], inputs.square()[mine]


def _local(tensor: torch.Tensor) -> torch.Tensor:
    part: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part.detach()


def _of_its_own(execution: Execution) -> dict[str, Any]:
    """Random numbers, and buffers that were those of each rank."""
    import torch

    drawn = float(torch.rand((), device=execution.device))
    norm = torch.nn.BatchNorm1d(2, device=execution.device)
    norm.register_buffer("empty", torch.empty(0, device=execution.device))
    for buffer in norm.buffers():
        buffer.fill_(execution.ranks.layout.rank + 1)
    execution.align_buffers(norm)
    return {"drawn": drawn, "buffers": [buffer.tolist() for buffer in norm.buffers()]}


def _loss_of_others(execution: Execution) -> str | None:
    """What the first rank gets to know when the others have ended without a word."""
    if execution.ranks.layout.rank:
        return None
    try:
        execution.ranks.gather(None)
    except RuntimeError as error:
        return str(error)
    return None


if __name__ == "__main__":
    main()

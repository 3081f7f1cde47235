"""The loops that ours is measured against; run as `python loops.py LOOP MODEL BATCH FIRST LAST`.

`eager` is what a careful person writes by hand: the whole set as one uint8 tensor in memory, gathered and normalised
per batch, the loss read every 100 batches. `ddp` is that on several ranks under torchrun, each batch split over them.
`dataloader` is the usual torchvision data set behind a DataLoader, in this process. Prints CPU and wall seconds per
step as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from mnist_trials.mnist.models import ConvNet, LinearStack

MEAN, STD = 0.1307, 0.3081
ROOT = os.environ.get("MNIST_TRIALS_DATA", "../shared/mnist")


def build(model: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    if model == "TutorialCNN":
        net: nn.Module = ConvNet((32, 64), (0.25, 0.5))
        return net, torch.optim.Adadelta(net.parameters(), lr=1.0)
    if model == "MNISTLinear":
        net = LinearStack(512, bias=False)
        return net, torch.optim.SGD(net.parameters(), lr=0.01)
    net = nn.Linear(16, 4)
    return net, torch.optim.SGD(net.parameters(), lr=0.01)


def in_memory(model: str, batch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    if model == "Tiny":
        generator = torch.Generator().manual_seed(1)
        images, labels = torch.randn(20_000, 16, generator=generator), torch.randint(0, 4, (20_000,))
    else:
        raw = Path(ROOT) / "MNIST" / "raw"
        pixels = bytearray((raw / "train-images-idx3-ubyte").read_bytes())
        classes = bytearray((raw / "train-labels-idx1-ubyte").read_bytes())
        images = torch.frombuffer(pixels, dtype=torch.uint8, offset=16).view(-1, 1, 28, 28)
        labels = torch.frombuffer(classes, dtype=torch.uint8, offset=8).long()
    while True:
        order = torch.randperm(len(images))
        for start in range(0, len(images), batch):
            chosen = order[start : start + batch]
            some = images[chosen]
            if model != "Tiny":
                some = some.float().div_(255).sub_(MEAN).div_(STD)
            yield some, labels[chosen]


def data_loader(batch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    from torchvision import datasets, transforms

    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])
    data = datasets.MNIST(ROOT, train=True, transform=steps)
    loader = torch.utils.data.DataLoader(data, batch_size=batch, shuffle=True)
    while True:
        yield from loader


def main() -> None:
    loop, model, batch, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    net, optimizer = build(model)
    rank, ranks = 0, 1
    if loop == "ddp":
        dist.init_process_group("gloo")
        rank, ranks = dist.get_rank(), dist.get_world_size()
        net = nn.parallel.DistributedDataParallel(net)
    batches = data_loader(batch) if loop == "dataloader" else in_memory(model, batch // ranks)
    one_hot = model == "MNISTLinear"
    loss_fn = nn.MSELoss() if one_hot else nn.CrossEntropyLoss()
    net.train()
    start = (0.0, 0.0)
    for step in range(1, last + 1):
        if step == first:
            start = (time.process_time(), time.perf_counter())
        if step == last:
            spent = (time.process_time() - start[0], time.perf_counter() - start[1])
            if rank == 0:
                print(json.dumps({"cpu": spent[0] / (last - first), "wall": spent[1] / (last - first)}))
            if ranks > 1:
                dist.destroy_process_group()
            return
        images, labels = next(batches)
        target = nn.functional.one_hot(labels, 10).float() if one_hot else labels
        loss = loss_fn(net(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            loss.item()


if __name__ == "__main__":
    main()

"""Two static programs, one that trains and one that tests, and the weights handed from one to the other by name.

    python examples/popxl_mlp.py --data-root ../shared/mnist

A network of 784-32-10 with GELU on the output too, all weights drawn from N(0, 0.02). The training program takes
batches of 8, learns from each, and gives its loss; the test program takes batches of 80 and gives logits. Shapes are
static, so samples that do not fill a last batch are left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import islice

import torch
from torch.nn.functional import log_softmax, nll_loss

import mnist_trials as mt
from mnist_trials.mnist.data import build_data
from mnist_trials.mnist.models import popxl_mlp

Batch = tuple[torch.Tensor, torch.Tensor]


def training_program(batch_size: int, lr: float) -> mt.Program:
    model = popxl_mlp(32)

    def train(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nll_loss(log_softmax(model(images), dim=1), labels)

    inputs = {"images": mt.TensorSpec((batch_size, 1, 28, 28)), "labels": mt.TensorSpec((batch_size,), torch.int64)}
    return mt.capture(train, inputs, model=model, optimizer=torch.optim.SGD(model.parameters(), lr=lr))


def test_program(batch_size: int) -> mt.Program:
    model = popxl_mlp(32)  # with random weights of its own

    def test(images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": model(images)}

    return mt.capture(test, {"images": mt.TensorSpec((batch_size, 1, 28, 28))}, model=model)


def batches(data: mt.TensorData, size: int, limit: int | None, generator: torch.Generator | None) -> Iterator[Batch]:
    """Whole batches, in an order drawn from `generator` if there is one."""
    count = len(data.images)
    order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
    for start in islice(range(0, count - size + 1, size), limit):
        rows = order[start : start + size]
        images = data.images[rows]
        yield images if data.transform is None else data.transform(images), data.labels[rows]


def run(options: argparse.Namespace) -> float:
    """Train, test, and return the share of test images that were classified right."""
    with mt.init(data_root=options.data_root) as context:
        train_data, test_data = build_data(context)
        train = training_program(options.batch_size, options.lr)
        test = test_program(options.test_batch_size)
        generator = torch.Generator().manual_seed(context.seed)

        with train.attach(context.device) as session:
            print(session.executable.told())
            began = time.perf_counter()
            for epoch in range(options.epochs):
                losses = list(session.stream(batches(train_data, options.batch_size, options.limit_batches, generator)))
                print(f"Epoch {epoch}: average loss {torch.stack(losses).mean():.4f}")
            print(f"Training took {time.perf_counter() - began:.1f} s.")

        test.load_weights(train.weights)
        hits = total = 0
        with test.attach(context.device) as session:
            print(session.executable.told())
            for images, labels in batches(test_data, options.test_batch_size, options.limit_batches, None):
                logits = session.run(images)
                hits += int((logits.argmax(dim=1).cpu() == labels).sum())
                total += len(labels)
    accuracy = hits / total
    print(f"Accuracy on test set: {100 * accuracy:.2f}%")
    return accuracy


def main(arguments: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--test-batch-size", type=int, default=80)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--limit-batches", type=int, help="train and test on so many batches only")
    parser.add_argument("--data-root", help="the folder that holds MNIST; by default what mnist-trials finds")
    return run(parser.parse_args(arguments))


if __name__ == "__main__":
    main()

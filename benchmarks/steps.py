"""The hand-written loops of `backends.py`; run as `python steps.py LOOP MODEL BATCH EPOCHS`.

`eager` and `compile` are torch: the latter compiles forward pass, loss and backward pass by `torch.compile`, and the
update with them. `jax step` is a jitted step with donated buffers called for every batch, `jax scan` a jitted
`lax.scan` over all batches of an epoch, the data on the device. Batches are shuffled anew every epoch and the losses
are read at its end. Writes CPU and wall seconds of every epoch to BENCHMARK_EPOCHS, as the trials do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent / "epochs"))
from epochs import STEPS, Stamps, flax_model, made_up, torch_model


def torch_epoch(model: str, batch: int, compiled: bool) -> Callable[[], None]:
    images, labels = made_up(model, batch)
    net = torch_model(model)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    net.train()

    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def forward(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(net(x), y)

    compiled_forward, compiled_update = torch.compile(forward, fullgraph=True), torch.compile(optimizer.step)

    def compiled_step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        loss = compiled_forward(x, y)
        loss.backward()
        compiled_update()
        return loss.detach()

    run = compiled_step if compiled else step

    def epoch() -> None:
        order = torch.randperm(len(images))
        losses = []
        for start in range(0, len(images), batch):
            chosen = order[start : start + batch]
            losses.append(run(images.index_select(0, chosen), labels.index_select(0, chosen)))
            optimizer.zero_grad()
        torch.stack(losses).mean().item()

    return epoch


def jax_epoch(model: str, batch: int, scan: bool) -> Callable[[], None]:
    import jax
    import jax.numpy as jnp
    import optax

    numbers, classes = made_up(model, batch)
    images, labels = jnp.asarray(numbers.numpy()), jnp.asarray(classes.numpy().astype("int32"))
    net = flax_model(model)
    params = net.init(jax.random.key(0), images[:batch], train=False)
    optimizer = optax.sgd(0.01)
    state = (params, optimizer.init(params))

    def step(state: Any, rows: Any, key: Any) -> Any:
        params, opt_state = state

        def loss_of(params: Any) -> Any:
            logits = net.apply(params, images[rows], train=True, rngs={"dropout": key})
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows]).mean()

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    jitted = jax.jit(step, donate_argnums=0)
    whole = jax.jit(
        lambda state, rows, keys: jax.lax.scan(lambda state, xs: step(state, *xs), state, (rows, keys)),
        donate_argnums=0,
    )
    key = jax.random.key(1)

    def epoch() -> None:
        nonlocal state, key
        key, own = jax.random.split(key)
        rows = jnp.asarray(torch.randperm(len(numbers)).numpy().reshape(STEPS[model], batch))
        keys = jax.random.split(own, STEPS[model])
        if scan:
            state, losses = whole(state, rows, keys)
        else:
            found = []
            for row, one in zip(rows, keys):
                state, loss = jitted(state, row, one)
                found.append(loss)
            losses = jnp.stack(found)
        losses.mean().item()

    return epoch


def main() -> None:
    loop, model, batch, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    if loop.startswith("jax"):
        epoch = jax_epoch(model, batch, scan=loop == "jax scan")
    else:
        epoch = torch_epoch(model, batch, compiled=loop == "compile")
    stamps = Stamps()
    stamps.on_training_start()
    for number in range(epochs):
        epoch()
        stamps.on_epoch_end(number)


if __name__ == "__main__":
    main()

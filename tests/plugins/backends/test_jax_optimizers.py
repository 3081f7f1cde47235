"""The optimizers of the backend `jax` beside torch's of the same name and options."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mnist_trials.training.torch_models.optimizers import OPTIMIZERS
from tests.plugins.backends.jax_lab import JaxLab, in_jax

CASES: list[dict[str, Any]] = [
    {"optimizer": "sgd"},
    {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.1},
    {"optimizer": "sgd", "momentum": 0.9, "nesterov": True},
    {"optimizer": "sgd", "momentum": 0.9, "dampening": 0.5},
    {"optimizer": "adam", "betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": 0.1},
    {"optimizer": "adamw"},
    {"optimizer": "adamw", "weight_decay": 0.3},
    {"optimizer": "adamax", "weight_decay": 0.1},
    {"optimizer": "adagrad", "eps": 1e-2},
    {"optimizer": "adadelta", "rho": 0.7, "eps": 1e-3},
    {"optimizer": "rmsprop", "eps": 1e-2},
    {"optimizer": "rmsprop", "eps": 1e-2, "momentum": 0.5, "centered": True, "weight_decay": 0.1},
]
STEPS = 12
RATE = 0.05


@in_jax
def test_each_makes_the_updates_of_torch(lab: JaxLab) -> None:
    import jax

    from mnist_trials_plugins.backends._jax.optimizers import make_optimizer

    random = np.random.default_rng(1)
    start = random.normal(size=(3, 5)).astype(np.float32)
    gradients = random.normal(size=(STEPS, 3, 5)).astype(np.float32)
    for case in CASES:
        options = {name: value for name, value in case.items() if name != "optimizer"}
        parameter = torch.nn.Parameter(torch.tensor(start))
        torchs = OPTIMIZERS[case["optimizer"]]([parameter], lr=RATE, **options)
        made = make_optimizer({**case, "learning_rate": RATE}, None, None)
        for gradient in gradients:
            parameter.grad = torch.tensor(gradient)
            torchs.step()

        def step(carry: Any, gradient: Any, update: Any = made.transformation.update) -> Any:
            params, state = carry
            directions, state = update({"w": gradient}, state, params)
            return (jax.tree.map(lambda p, d: p - RATE * d, params, directions), state), None

        begun = {"w": jax.numpy.asarray(start)}
        (params, _), _ = jax.lax.scan(step, (begun, made.transformation.init(begun)), gradients)
        np.testing.assert_allclose(params["w"], parameter.detach().numpy(), rtol=2e-5, atol=2e-6, err_msg=str(case))


@in_jax
def test_all_of_them_are_compared(lab: JaxLab) -> None:
    from mnist_trials_plugins.backends._jax import optimizers

    assert {case["optimizer"] for case in CASES} == set(optimizers._MADE_BY)

"""What optimizers do to a parameter in one step, as operations on tensors alone.

torch's own optimizers read the number of the step and the learning rate out of tensors, which a program cannot do.
These rules keep both as tensors of float64, so that they round as Python's numbers do there, and change parameter and
state in place. The state has torch's names and shapes: a checkpoint does not show which of the two has written it.
Sources are named in the documentation of torch's class of the same name; tests hold every rule to torch's results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor

State = dict[str, Tensor]
Options = Mapping[str, Any]
Rule = Callable[[Tensor, Tensor, State, Options, Tensor], None]
"""Of (parameter, gradient, state, the options of the parameter's group, learning rate)."""


def _next(state: State) -> Tensor:
    """The number of this step, from 1, float64."""
    state["step"].add_(1)
    return state["step"].double()


def _decayed(parameter: Tensor, gradient: Tensor, options: Options, lr: Tensor) -> Tensor:
    """The gradient with weight decay; or as it is, where the parameter itself is to decay."""
    decay = options["weight_decay"]
    if not decay:
        return gradient
    if options.get("decoupled_weight_decay"):
        parameter.mul_(1 - lr * decay)
        return gradient
    return gradient.add(parameter, alpha=decay)


def sgd(parameter: Tensor, gradient: Tensor, state: State, options: Options, lr: Tensor) -> None:
    """Momentum begins with a buffer of zeros, which without dampening is the same as beginning with a gradient."""
    gradient = _decayed(parameter, gradient, options, lr)
    if momentum := options["momentum"]:
        buffer = state["momentum_buffer"]
        buffer.mul_(momentum).add_(gradient)
        gradient = gradient.add(buffer, alpha=momentum) if options["nesterov"] else buffer
    parameter.sub_(gradient * lr)


def adam(parameter: Tensor, gradient: Tensor, state: State, options: Options, lr: Tensor) -> None:
    """Adam, and AdamW, which decays the parameter instead of adding to the gradient; `amsgrad` too."""
    step = _next(state)
    gradient = _decayed(parameter, gradient, options, lr)
    first, second = options["betas"]
    mean, square = _moments(gradient, state, first, second)
    if options["amsgrad"]:
        square = torch.maximum(state["max_exp_avg_sq"], square)
        state["max_exp_avg_sq"].copy_(square)
    deviation = square.sqrt() / (1 - second**step).sqrt() + options["eps"]
    parameter.sub_(mean / deviation * (lr / (1 - first**step)))


def _moments(gradient: Tensor, state: State, first: float, second: float) -> tuple[Tensor, Tensor]:
    mean, square = state["exp_avg"], state["exp_avg_sq"]
    mean.lerp_(gradient, 1 - first)
    square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
    return mean, square


def nadam(parameter: Tensor, gradient: Tensor, state: State, options: Options, lr: Tensor) -> None:
    """Adam with Nesterov's momentum, whose strength grows from step to step."""
    step = _next(state)
    gradient = _decayed(parameter, gradient, options, lr)
    first, second = options["betas"]
    decay = options["momentum_decay"]
    now = first * (1 - 0.5 * 0.96 ** (step * decay))
    then = first * (1 - 0.5 * 0.96 ** ((step + 1) * decay))
    product = state["mu_product"].double() * now
    state["mu_product"].copy_(product)
    mean, square = _moments(gradient, state, first, second)
    deviation = (square / (1 - second**step)).sqrt() + options["eps"]
    parameter.sub_(gradient / deviation * (lr * (1 - now) / (1 - product)))
    parameter.sub_(mean / deviation * (lr * then / (1 - product * then)))


def radam(parameter: Tensor, gradient: Tensor, state: State, options: Options, lr: Tensor) -> None:
    """Adam that leaves out the division as long as the variance of its estimate is too large."""
    step = _next(state)
    gradient = _decayed(parameter, gradient, options, lr)
    first, second = options["betas"]
    mean, square = _moments(gradient, state, first, second)
    corrected = 1 - second**step
    most = 2 / (1 - second) - 1
    length = most - 2 * step * second**step / corrected
    rectified = ((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)).clamp(min=0).sqrt()
    factor = corrected.sqrt() * rectified / (square.sqrt() + options["eps"])
    factor = torch.where(length > 5, factor, torch.ones_like(factor))
    parameter.sub_(mean / (1 - first**step) * lr * factor)


def adamax(parameter: Tensor, gradient: Tensor, state: State, options: Options, lr: Tensor) -> None:
    """Adam with the largest gradient of late in the place of the root of the mean square."""
    step = _next(state)
    gradient = _decayed(parameter, gradient, options, lr)
    first, second = options["betas"]
    mean, largest = state["exp_avg"], state["exp_inf"]
    mean.lerp_(gradient, 1 - first)
    largest.copy_(torch.maximum(largest * second, gradient.abs() + options["eps"]))
    parameter.sub_(mean / largest * (lr / (1 - first**step)))


def adagrad(parameter: Tensor, gradient: Tensor, state: State, options: Options, lr: Tensor) -> None:
    """Divides by the root of the sum of all squares so far."""
    step = _next(state)
    gradient = _decayed(parameter, gradient, options, lr)
    total = state["sum"]
    total.addcmul_(gradient, gradient)
    parameter.sub_(gradient / (total.sqrt() + options["eps"]) * (lr / (1 + (step - 1) * options["lr_decay"])))


def adadelta(parameter: Tensor, gradient: Tensor, state: State, options: Options, lr: Tensor) -> None:
    """Scales by the ratio of what the changes and what the gradients were of late."""
    _next(state)
    gradient = _decayed(parameter, gradient, options, lr)
    rho, eps = options["rho"], options["eps"]
    square, changes = state["square_avg"], state["acc_delta"]
    square.mul_(rho).addcmul_(gradient, gradient, value=1 - rho)
    change = (changes + eps).sqrt() / (square + eps).sqrt() * gradient
    changes.mul_(rho).addcmul_(change, change, value=1 - rho)
    parameter.sub_(change * lr)


def asgd(parameter: Tensor, gradient: Tensor, state: State, options: Options, lr: Tensor) -> None:
    """Descent at a falling rate, and the average of the parameters on the way (`ax`)."""
    step = _next(state)
    gradient = _decayed(parameter, gradient, options, lr)
    rate, average = state["eta"], state["ax"]
    parameter.mul_(1 - options["lambd"] * rate.double())
    parameter.sub_(gradient * rate)
    average.add_((parameter - average) * state["mu"])
    rate.copy_(lr / (1 + options["lambd"] * lr * step) ** options["alpha"])
    state["mu"].copy_(1 / (step - options["t0"]).clamp(min=1))


def rmsprop(parameter: Tensor, gradient: Tensor, state: State, options: Options, lr: Tensor) -> None:
    """Divides by the root of the mean square of late; `centered`: by the deviation."""
    _next(state)
    gradient = _decayed(parameter, gradient, options, lr)
    alpha, square = options["alpha"], state["square_avg"]
    square.mul_(alpha).addcmul_(gradient, gradient, value=1 - alpha)
    variance = square
    if options["centered"]:
        state["grad_avg"].lerp_(gradient, 1 - alpha)
        variance = square.addcmul(state["grad_avg"], state["grad_avg"], value=-1)
    deviation = variance.sqrt() + options["eps"]
    if options["momentum"]:
        change = state["momentum_buffer"].mul_(options["momentum"]).addcdiv_(gradient, deviation)
    else:
        change = gradient / deviation
    parameter.sub_(change * lr)


def rprop(parameter: Tensor, gradient: Tensor, state: State, options: Options, lr: Tensor) -> None:
    """Steps by the sign of the gradient alone, farther where it stays the same, less far where it has changed."""
    _next(state)
    (less, more), (smallest, largest) = options["etas"], options["step_sizes"]
    agreement = (gradient * state["prev"]).sign()
    sizes, one = state["step_size"], torch.ones_like(agreement)
    sizes.mul_(torch.where(agreement > 0, one * more, torch.where(agreement < 0, one * less, one)))
    sizes.clamp_(smallest, largest)
    gradient = torch.where(agreement < 0, torch.zeros_like(gradient), gradient)
    parameter.sub_(gradient.sign() * sizes)
    state["prev"].copy_(gradient)


RULES: Final[Mapping[type[torch.optim.Optimizer], Rule]] = {
    torch.optim.Adadelta: adadelta,
    torch.optim.Adagrad: adagrad,
    torch.optim.Adam: adam,
    torch.optim.AdamW: adam,
    torch.optim.Adamax: adamax,
    torch.optim.ASGD: asgd,
    torch.optim.NAdam: nadam,
    torch.optim.RAdam: radam,
    torch.optim.RMSprop: rmsprop,
    torch.optim.Rprop: rprop,
    torch.optim.SGD: sgd,
}
"""The optimizers whose step a program can hold."""

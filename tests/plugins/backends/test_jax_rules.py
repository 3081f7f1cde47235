"""What a trial of the backend `jax` may do, and what it is told where it may not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import mnist_trials as mt
from mnist_trials.errors import PluginError, TrialError
from mnist_trials.events import HistogramsReported
from tests.plugins.backends.jax_lab import JaxLab, in_jax
from tests.training.lab import Run, samples


def fit_with(lab: JaxLab, hparams: dict[str, Any] | None = None, **methods: Any) -> Run:
    """Train a `Pure` whose `methods` are others."""
    from tests.plugins.backends.jax_models import Pure

    return lab.fit(type("Other", (Pure,), methods), lab.context(hparams))


def returning(value: Any) -> Any:
    """A method that does what `Pure` does and returns what `value` makes of the loss."""
    from tests.plugins.backends.jax_models import Pure

    def train_batch(self: Any, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        return value(Pure.train_batch(self, batch, epoch_idx, batch_idx)["loss"])

    return train_batch


@in_jax
def test_a_model_of_another_framework_is_refused_with_what_to_do(lab: JaxLab) -> None:
    from flax import nnx

    with pytest.raises(
        TrialError, match=r"torch module Linear\. Torch modules train on the backends cpu, cuda and xla"
    ):
        fit_with(lab, build_model=lambda self: torch.nn.Linear(1, 1))
    with pytest.raises(TrialError, match=r"nnx module Linear.*linen"):
        fit_with(lab, build_model=lambda self: nnx.Linear(1, 1, rngs=nnx.Rngs(0)))
    with pytest.raises(TrialError, match="it returned int"):
        fit_with(lab, build_model=lambda self: 3)


@in_jax
def test_an_object_with_init_and_apply_is_a_model(lab: JaxLab) -> None:
    from types import SimpleNamespace

    from tests.plugins.backends import jax_models

    model = SimpleNamespace(init=lambda key, images: jax_models.init(key), apply=jax_models.apply)
    assert list(fit_with(lab, build_model=lambda self: model).weights) == [
        "params.hidden.bias",
        "params.hidden.weight",
        "params.out.bias",
        "params.out.weight",
    ]


@in_jax
def test_a_parameter_that_cannot_be_learnt_is_named(lab: JaxLab) -> None:
    import jax.numpy as jnp

    def build_model(self: Any) -> Any:
        return lambda key: {"w": jnp.ones(3), "count": jnp.zeros((), int)}, lambda params, images: images

    with pytest.raises(TrialError, match=r"'count'.*int32"):
        fit_with(lab, build_model=build_model)


@in_jax
def test_what_needs_values_while_it_is_compiled_is_explained_with_its_line(lab: JaxLab) -> None:
    cases = {
        "an if": lambda loss: loss if loss > 0 else -loss,
        "float": lambda loss: {"loss": loss, "more": float(loss)},
        "a weight": lambda loss: mt.weighted(loss, loss),
    }
    for value in cases.values():
        with pytest.raises(
            TrialError, match=r"train_batch asks for the value of an array \(test_jax_rules\.py:\d+.*jnp\.where"
        ):
            fit_with(lab, train_batch=returning(value))


@in_jax
def test_an_array_kept_from_another_batch_is_explained(lab: JaxLab) -> None:
    kept: list[Any] = []

    def keep(loss: Any) -> Any:
        kept.append(loss)
        return sum(kept)

    with pytest.raises(TrialError, match="computed in another batch"):
        fit_with(lab, train_batch=returning(keep))


@in_jax
def test_what_is_returned_must_be_a_loss_or_metrics_with_one(lab: JaxLab) -> None:
    cases = {
        "is a `return` missing": lambda loss: None,
        "has no 'loss'. It has: other": lambda loss: {"other": loss},
        "Is a .mean() missing": lambda loss: loss[None].repeat(2),
        "must be a single floating-point number": lambda loss: {"loss": 1.0},
        "a torch tensor of shape (2,) as the metric 'more'": lambda loss: {"loss": loss, "more": torch.ones(2)},
        "names of metrics are text": lambda loss: {"loss": loss, 3: loss},
    }
    for text, value in cases.items():
        with pytest.raises(TrialError) as raised:
            fit_with(lab, train_batch=returning(value))
        assert text in str(raised.value)


@in_jax
def test_a_loss_that_has_nothing_to_do_with_the_model_is_refused(lab: JaxLab) -> None:
    import jax.numpy as jnp

    with pytest.raises(TrialError, match="does not depend on the model"):
        fit_with(lab, train_batch=lambda self, batch, epoch_idx, batch_idx: jnp.ones(()))


@in_jax
def test_torchmetrics_are_refused_with_the_reason(lab: JaxLab) -> None:
    from torchmetrics import MeanMetric

    metric = MeanMetric()
    with pytest.raises(TrialError, match=r"would run once.*jax\.numpy"):
        fit_with(lab, train_batch=returning(lambda loss: {"loss": loss, "mean": metric}))


@in_jax
def test_a_validation_must_give_metrics(lab: JaxLab) -> None:
    for result, text in (({}, "an empty one"), (None, "NoneType")):
        with pytest.raises(TrialError, match=text):
            fit_with(lab, evaluate_batch=lambda self, batch, batch_idx, result=result: result)


@in_jax
def test_a_batch_with_what_is_no_array_is_refused(lab: JaxLab) -> None:
    from torch.utils.data import DataLoader

    def build_data(self: Any) -> Any:
        rows = [(image, int(label), "text") for image, label in zip(*samples(16), strict=True)]
        return DataLoader(rows, 8), DataLoader(rows, 8)  # type: ignore[arg-type]

    with pytest.raises(TrialError, match="A batch holds 'text'"):
        fit_with(lab, build_data=build_data)


@in_jax
def test_optimizers_that_are_not_here_are_refused_and_optax_is_named(lab: JaxLab) -> None:
    for hparams, text in (
        ({"optimizer": "nadam"}, "no optimizer named 'nadam'.*adagrad.*optax"),
        ({"optimizer": None}, "optimizer missing.*one of: adadelta"),
        ({"optimizer": "adam", "momentum": 0.9}, "'adam'.*takes no momentum"),
        ({"learning_rate": "fast"}, "'learning_rate'.*'fast'"),
        ({"momentum": -1}, "cannot take -1 as momentum"),
        ({"nesterov": True}, "nesterov.*momentum"),
        ({"aggregation_frequency": 0}, "'aggregation_frequency'"),
        ({"max_gradient_norm": 0}, "'max_gradient_norm'"),
    ):
        with pytest.raises(TrialError, match=text):
            fit_with(lab, hparams)


@in_jax
def test_a_trial_may_build_any_optimizer_of_optax(lab: JaxLab) -> None:
    import optax

    run = fit_with(
        lab, {"optimizer": None, "learning_rate": None}, build_optimizer=lambda self, model: optax.lion(1e-3)
    )
    assert run.trial._learner.steps == 10
    assert callable(run.trial.optimizer.update)
    with pytest.raises(TrialError, match="must return an optax optimizer"):
        fit_with(lab, build_optimizer=lambda self, model: torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 1.0))
    with pytest.raises(TrialError, match="lr_schedule"):
        fit_with(lab, {"lr_schedule": "constant"}, build_optimizer=lambda self, model: optax.sgd(1.0))


@in_jax
def test_fp16_is_refused_and_bf16_offered(lab: JaxLab) -> None:
    with pytest.raises(PluginError, match="bf16-mixed"):
        lab.context(precision="fp16-mixed")
    with pytest.raises(PluginError, match="fp32, bf16-mixed, bf16-true"):
        lab.context(precision="fp12")


@in_jax
def test_a_short_batch_that_cannot_be_filled_up_has_its_own_program_and_that_is_said(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Pure

    epochs = mt.Epoch(1)  # of 100 samples: the last batch has 4

    def said(train_batch: Any) -> list[str]:
        run = lab.fit(type("Other", (Pure,), {"train_batch": train_batch}), max_length=epochs)
        return [notice for notice in run.notices if "short training batch of 4" in notice]

    assert said(returning(lambda loss: loss)) == []

    def total(self: Any, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        return Pure.train_batch(self, batch, epoch_idx, batch_idx)["loss"] * len(batch[0])

    assert "not the mean over the samples" in said(total)[0]
    assert "a weight of their own" in said(returning(lambda loss: {"loss": loss, "w": mt.weighted(loss, 3)}))[0]

    def pairs(self: Any, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        assert len(batch[0]) > 1
        return Pure.train_batch(self, batch, epoch_idx, batch_idx)["loss"]

    assert "cannot be computed for each sample by itself (AssertionError" in said(pairs)[0]


@in_jax
def test_a_metric_may_have_a_weight_of_its_own(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Pure

    def train_batch(self: Any, batch: Any, epoch_idx: int, batch_idx: int) -> Any:
        loss = Pure.train_batch(self, batch, epoch_idx, batch_idx)["loss"]
        return {"loss": loss, "number": mt.weighted(batch_idx, len(batch[0]) ** 2), "size": float(len(batch[0]))}

    run = lab.fit(type("Other", (Pure,), {"train_batch": train_batch}), max_length=mt.Epoch(1))
    counted = sum(64 * number for number in range(12)) + 16 * 12
    assert run.reported("number")[0] == pytest.approx(counted / (12 * 64 + 16))
    assert run.reported("size")[0] == pytest.approx((12 * 64 + 16) / 100)


@in_jax
def test_a_scheduler_of_torch_is_refused(lab: JaxLab) -> None:
    with pytest.raises(TrialError, match=r"build_lr_scheduler.*lr_schedule"):
        fit_with(lab, build_lr_scheduler=lambda self, optimizer: None)


@in_jax
def test_parameters_and_gradients_can_be_watched(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Pure

    run = lab.fit(Pure, lab.context(config={"watch": {"what": "all", "every": 5}}))
    looks = run.channel.of(HistogramsReported)
    assert [look.batches for look in looks] == [5, 10]
    named = {(one.kind, one.name): one for one in looks[1].histograms}
    weights = run.weights["params.hidden.weight"]
    assert named["parameters", "params.hidden.weight"].maximum == pytest.approx(weights.max().item())
    gradient = named["gradients", "params.hidden.weight"]
    assert gradient.size == weights.numel()
    assert gradient.std > 0  # type: ignore[operator]


@in_jax
def test_a_look_at_gradients_waits_for_an_update_also_after_a_resume(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Pure

    hparams, config = {"aggregation_frequency": 4}, {"watch": {"what": "gradients", "every": 2}}
    whole = lab.fit(Pure, lab.context(hparams, config), max_length=mt.Batch(12))
    assert [look.batches for look in whole.channel.of(HistogramsReported)] == [4, 8, 12]
    first = lab.fit(Pure, lab.context(hparams, config), max_length=mt.Batch(5))
    saved = [first.result.checkpoint]
    resumed = lab.fit(Pure, lab.context(hparams, config, checkpoints=saved), max_length=mt.Batch(12))
    for look in resumed.channel.of(HistogramsReported):
        assert look.histograms
        assert all(one.std > 0 for one in look.histograms)  # type: ignore[operator]


@in_jax
def test_compiling_is_said_to_be_done_anyway(lab: JaxLab) -> None:
    from tests.plugins.backends.jax_models import Pure

    for asked, word in ((True, "true"), ("program", "program")):
        run = lab.fit(Pure, lab.context(config={"compile": asked}), max_length=mt.Batch(1))
        assert any(f"`compile: {word}` has no effect on the backend 'jax'" in text for text in run.notices)


@in_jax
def test_the_trial_of_the_page_about_jax_trains(lab: JaxLab) -> None:
    page = (Path(__file__).parents[3] / "docs" / "jax.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[0], names)
    context = lab.context({"width": 8, "global_batch_size": 512}, {"data": {"fake": True}})
    assert set(lab.fit(names["Digits"], context).result.metrics) == {"validation_loss", "accuracy"}


@in_jax
def test_the_page_about_jax_names_the_optimizers(lab: JaxLab) -> None:
    from mnist_trials_plugins.backends._jax import optimizers

    page = (Path(__file__).parents[3] / "docs" / "jax.md").read_text(encoding="utf-8")
    assert [name for name in optimizers._MADE_BY if f"`{name}`" not in page] == []

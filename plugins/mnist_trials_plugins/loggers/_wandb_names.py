"""Under which names the logger `wandb` logs what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from mnist_trials.errors import PluginError
from mnist_trials.plugin import Options, text_option
from mnist_trials.records import Histogram, MetricValues

TEMPLATES: Final = {"log_gradients": "gradients/{name}", "log_weights": "parameters/{name}"}
"""Options that are templates, with their defaults; {name} is that of the parameter."""

METRICS: Final = {
    "log_train_loss": ("training", "loss"),
    "log_val_loss": ("validation", "validation_loss"),
    "log_val_accuracy": ("validation", "accuracy"),
}
"""Options that name one metric, and of which kind it is and what the trial calls it."""


@final
@dataclass(frozen=True, slots=True)
class Names:
    """The names that options give, and those that everything else has."""

    templates: Mapping[str, str]  # by the kind of a histogram
    metrics: Mapping[tuple[str, str], str]  # by kind and name

    @classmethod
    def of(cls, plugin: str, options: Options) -> Names:
        """The names that `options` of `plugin` give.

        Raises:
            PluginError: one is not text, or a template that does not say where the name goes.
        """
        given = {option: text_option(plugin, options, option) or default for option, default in TEMPLATES.items()}
        for option, template in given.items():
            if "{name}" not in template:
                raise PluginError(
                    f"'{option}' of {plugin} must hold {{name}}, which stands for the parameter's, not {template!r}."
                )
        metrics = {key: name for option, key in METRICS.items() if (name := text_option(plugin, options, option))}
        return cls({"gradients": given["log_gradients"], "parameters": given["log_weights"]}, metrics)

    def of_metrics(self, kind: str, metrics: MetricValues) -> dict[str, Any]:
        """`metrics` by the names they are logged under."""
        return {
            self.metrics.get((kind, name), f"{kind}/{name}"): float("nan") if value is None else value
            for name, value in metrics.items()
        }

    def of_histogram(self, histogram: Histogram) -> str:
        """The name that `histogram` is logged under."""
        return self.templates[histogram.kind].replace("{name}", histogram.name)

"""Looking into a trial without training it: its layers, its operations, and what a step costs."""

from mnist_trials.training.inspection.inspect import inspect_trial
from mnist_trials.training.inspection.layers import Layers

__all__ = ["Layers", "inspect_trial"]

"""The data of the MNIST trials: where they come from and how they reach a trial. docs/data.md has the rules."""

from mnist_trials.mnist.data.arrays import Arrays
from mnist_trials.mnist.data.build import build_data, build_test_data, load_arrays

__all__ = ["Arrays", "build_data", "build_test_data", "load_arrays"]

"""Runs a command on several slots of this machine: `python3 -m mnist_trials.launch.torch_distributed`."""

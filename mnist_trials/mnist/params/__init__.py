"""Parameter files of the references, read as experiment configs. Imports nothing heavy.

Each reference has a table of its keys: what a key becomes here, or that it means nothing here. A key that is in no
table is a mistake.
"""

from mnist_trials.mnist.params.reading import Translation, translate

__all__ = ["Translation", "translate"]

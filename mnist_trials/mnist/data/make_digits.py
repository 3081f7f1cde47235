"""Makes digits.npz from scikit-learn's copy of the digits: `python -m mnist_trials.mnist.data.make_digits`.

scikit-learn is needed for this alone and is no dependency.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np


def main() -> None:
    """Write digits.npz beside this file."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    np.savez_compressed(Path(__file__).with_name("digits.npz"), images=images, labels=labels)


if __name__ == "__main__":
    main()

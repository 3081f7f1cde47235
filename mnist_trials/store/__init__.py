"""What is known of all experiments of a home: the only package that opens SQLite. See docs/store.md."""

from mnist_trials.store.leasing import Holdings
from mnist_trials.store.reader import Reader, open_reader
from mnist_trials.store.transaction import Transaction
from mnist_trials.store.writer import Store, open_store

__all__ = ["Holdings", "Reader", "Store", "Transaction", "open_reader", "open_store"]

"""Data of a trial: cut over its ranks, put together in batches, and brought to the device."""

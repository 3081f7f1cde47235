"""The worker's side of the backend `jax`; imported when it is opened, as it imports jax."""

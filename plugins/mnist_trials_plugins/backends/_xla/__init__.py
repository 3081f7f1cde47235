"""What the backend `xla` does in a worker. Everything here imports torch_xla: to be imported in workers only."""

"""What the backends of torch devices do in a worker. Everything here imports torch: to be imported in workers only."""

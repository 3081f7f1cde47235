"""First-party plugins: one file per plugin, each an entry point of its own."""

"""Experiments: submitting one, controlling its trials, and going on after anything. See docs/store.md."""

"""The process that trains a trial, and `mt.init()` for scripts. Knows its spec, answers with events."""

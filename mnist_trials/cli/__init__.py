"""The command line, `mnist-trials`: one file per group of commands."""

"""Places outside the store that follow an experiment, one file each."""

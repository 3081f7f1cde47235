"""`compile: program`: torch modules trained and evaluated by captured programs."""

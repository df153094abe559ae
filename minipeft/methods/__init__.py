"""One file per method: its config, its module, how it attaches, folds and counts."""

"""Storage: checkpoints, input files, the page cache."""

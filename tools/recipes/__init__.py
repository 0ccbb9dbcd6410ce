"""Training recipes: each makes a checkpoint and a front from public data."""

"""One call's way: inputs, choice, run, record."""

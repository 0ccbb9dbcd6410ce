"""Verification: the same computation by other means, and the comparison."""

"""Batch norm per configuration: finding it, its statistics, and how they enter a graph."""

"""``skipc select``: the near-Pareto configurations of a trained network."""

"""What a graph with gates, and an engine of one, call what is theirs."""

from __future__ import annotations

DECISIONS = "skipc.decisions"
"""The output of a graph with gates: by row and unit, whether it ran."""
THRESHOLDS = "skipc.thresholds"
"""The input of its engine: by unit, what its gate's score must exceed."""
CAP = "skipc.cap"
"""The input of its engine: how many of these units run at most."""
EVERYTHING = -3.0e38
"""A threshold that every score exceeds."""

"""Training recipes: networks that tolerate the loss of parts of themselves.

``skipc train RECIPE`` runs one. They are meant to be read, and to start yours from.
"""

from __future__ import annotations

from skipc.runtime.errors import SkipcError


class TrainError(SkipcError):
    """The data, the options or the run to resume cannot be trained with."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no failure; reproducible, so that a commit cannot fail by another's luck.
settings.register_profile("skipc", deadline=None, derandomize=True)
settings.load_profile("skipc")

"""What happens when a network computes NaN or infinity."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, final

import numpy as np

from ..errors import ChoiceError, EngineError, choices_text

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOG = logging.getLogger(__name__)

POLICIES = ("pass", "warn", "fall-back")


class NotFiniteError(EngineError):
    """An output holds NaN or infinity, and the policy is to fall back."""


@final
class OutputChecker:
    """Looks at outputs as a policy says.

    Args:
        policy: ``pass`` does not look. ``warn`` logs the first time for each configuration.
            ``fall-back`` runs the next cheaper configuration instead. Outputs that stay on
            a GPU are not looked at, nor are those that are no floating-point numbers of
            NumPy's own.

    Raises:
        ChoiceError: ``policy`` is none of these.
    """

    def __init__(self, policy: str) -> None:
        if policy not in POLICIES:
            raise ChoiceError(
                f"nan_outputs={policy!r} is not a policy."
                f" {choices_text(str(policy), POLICIES)}"
            )
        self._policy = policy
        self._warned: dict[str, object] = {}

    def check(self, configuration: str, outputs: Mapping[str, Any]) -> None:
        """Looks at the outputs of a call.

        Raises:
            NotFiniteError: One holds NaN or infinity, and the policy is ``fall-back``.
        """
        if self._policy == "pass":
            return
        for name, array in outputs.items():
            if not isinstance(array, np.ndarray) or array.dtype.kind not in "fc":
                continue
            finite = np.isfinite(array)
            if finite.all():
                continue
            what = (
                f"configuration {configuration!r}: {int((~finite).sum())} of {array.size}"
                f" values of output {name!r} are NaN or infinite."
            )
            if self._policy == "fall-back":
                raise NotFiniteError(what)
            said = object()
            if self._warned.setdefault(configuration, said) is said:
                _LOG.warning("%s This is said once.", what)

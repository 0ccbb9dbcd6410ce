"""Changes the power mode of the device, while it is asked to, and puts back what was."""

from __future__ import annotations

from typing import Protocol


class Modes(Protocol):
    """Some power modes of one device, of which one may be put in force at a time."""

    @property
    def names(self) -> tuple[str, ...]:
        """The modes, as the device calls them."""

    @property
    def now(self) -> str | None:
        """Which of them is in force; None if it is another one."""

    def change(self, name: str) -> None:
        """Puts one of ``names`` in force, and returns when it is.

        Raises:
            ModeError: It cannot be; what was in force still is, unless the message says so.
        """

    def power_mode(self) -> str:
        """Returns what is in force, as ``Device.power_mode`` tells it."""

    def close(self) -> None:
        """Puts in force what was before the first change.

        Raises:
            ModeError: It cannot be; the next process that opens modes tries again.
        """

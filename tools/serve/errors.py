"""Why a request is not answered with outputs."""

from __future__ import annotations

from skipc.runtime.errors import SkipcError


class RequestError(SkipcError):
    """A request is refused; ``status`` is HTTP's: 4xx its own fault, 5xx the server's."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[type[RequestError], tuple[str, int]]:
        return type(self), (str(self), self.status)


class ServeError(SkipcError):
    """A server cannot be started with what was given."""

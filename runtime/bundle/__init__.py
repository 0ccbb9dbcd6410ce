"""What is on disk: the bundle folder and its documents."""

from __future__ import annotations

from .folder import Bundle

__all__ = ["Bundle"]

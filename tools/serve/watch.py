"""Whether a bundle's files are still those that an engine was opened with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.runtime.bundle.folder import ENGINES_FOLDER, MANIFEST_FILE
from skipc.tools.serve.errors import RequestError

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.runtime import Bundle

    Seen = tuple[tuple[str, int, int, int], ...]


class Watch:
    """Looks at a bundle's manifest and engines: which files they are, how large, how old.

    Engines map their weights into memory, so a file that is written over changes the answers.
    Make one before the engine is opened.
    """

    def __init__(self, bundle: Bundle) -> None:
        root = bundle.path
        engines = [path for path in (root / ENGINES_FOLDER).rglob("*") if path.is_file()]
        self._path, self._files = root, (root / MANIFEST_FILE, *sorted(engines))
        self._seen = _seen(self._files)

    def check(self) -> None:
        """Raises ``RequestError`` where a file was changed or is gone, from then on always."""
        try:
            unchanged = self._seen is not None and _seen(self._files) == self._seen
        except OSError:
            unchanged = False
        if not unchanged:
            self._seen = None
            raise RequestError(
                f"the bundle {self._path.name!r} was changed after this server had opened it,"
                " so nothing is answered any more. Start the server again.",
                503,
            )


def _seen(files: tuple[Path, ...]) -> Seen | None:
    found = ((path, path.stat()) for path in files)
    return tuple((str(path), s.st_ino, s.st_size, s.st_mtime_ns) for path, s in found)

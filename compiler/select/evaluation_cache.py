"""Scores on disk: an interrupted search resumes, a wider one starts from the narrower.

One file per search problem, JSON lines: the first says what the scores are for, each further
one is a configuration, ``{"genes": [0, 1, 0], "score": 0.99}``. The file is only ever appended
to, one write per line, so that two processes may use it at once. A line that a crash cut short
is closed with ``#torn`` by whoever appends next, and is ignored.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from io import FileIO
from typing import TYPE_CHECKING

from skipc.compiler.errors import SelectError
from skipc.runtime.bundle.records import parse_json, read
from skipc.runtime.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from skipc.compiler.axes.axis import Gene, Genes

FORMAT = "skipc.evaluations/2"
_TORN = b"#torn"
_MEND = "The file is damaged: delete it, and its configurations are evaluated again."


@dataclass(frozen=True, slots=True)
class _Entry:
    """One line: a configuration and its score."""

    genes: tuple[int, ...]
    score: float


@dataclass(frozen=True, slots=True)
class EvaluationKey:
    """What a score depends on, besides the configuration.

    Attributes:
        checkpoint_sha256: The weights.
        data_sha256: The data and its parts.
        norm: The norm mode.
        metric: The metric's name.
        residual_scale: How kept branches are scaled, with the survival probabilities given.
        genes: What is decided, and among how many values.
    """

    checkpoint_sha256: str
    data_sha256: str
    norm: str
    metric: str
    residual_scale: str
    genes: tuple[Gene, ...]

    def line(self) -> bytes:
        """Returns the first line of the file, newline included."""
        fields = {"format": FORMAT, **asdict(self)}
        return json.dumps(fields, ensure_ascii=True).encode() + b"\n"

    def file_name(self) -> str:
        """Returns the name of the file, which only this key has."""
        return f"{hashlib.sha256(self.line()).hexdigest()[:32]}.jsonl"


class EvaluationCache:
    """The scores of one search problem.

    What goes wrong with the disk ends the caching with one note, never the search.

    Args:
        folder: Where the files lie; made where it is missing.
        key: What the scores are for.
        note: Told in one line that caching has ended, and why.

    Raises:
        SelectError: The file is damaged.
    """

    def __init__(self, folder: Path, key: EvaluationKey, note: Callable[[str], None]) -> None:
        self.path = folder / key.file_name()
        self._key = key
        self._header = key.line()
        self._note = note
        self._scores: dict[Genes, float] = {}
        self._file: FileIO | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Unbuffered and appending: no other process's line gets into one of these.
            self._file = FileIO(self.path, "ab")
            content = self.path.read_bytes()
        except OSError as cause:
            self._stop(cause)
            return
        try:
            complete = self._read(content)
        except BaseException:
            self.close()
            raise
        if content and not content.endswith(b"\n"):
            self._append(_TORN + b"\n")
        if not complete:
            self._append(self._header)

    @property
    def scores(self) -> Mapping[Genes, float]:
        """The score of every configuration evaluated so far, also by earlier runs."""
        return self._scores

    def add(self, genes: Genes, score: float) -> None:
        """Keeps a score, at once on disk; one that is not finite is for nobody to read."""
        if genes in self._scores or not math.isfinite(score):
            return
        self._scores[genes] = score
        self._append(json.dumps({"genes": genes, "score": float(score)}).encode() + b"\n")

    def close(self) -> None:
        """Closes the file; further scores are kept in memory only."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, line: bytes) -> None:
        if self._file is None:
            return
        try:
            if (self._file.write(line) or 0) < len(line):
                raise OSError("no space left for the whole line")
        except OSError as cause:
            self._stop(cause)

    def _stop(self, cause: OSError) -> None:
        self.close()
        reason = cause.strerror or str(cause)
        self._note(
            f"{self.path}: evaluated configurations can no longer be cached: {reason}. The"
            " search goes on; what it finds from here on is not kept for the next one. Free"
            " some space there, or give another folder with --cache."
        )

    def _read(self, content: bytes) -> bool:
        """Reads the scores; returns whether the first line was there."""
        # What follows the last newline is empty, or a line that a crash cut short.
        lines = [
            (number, line)
            for number, line in enumerate(content.split(b"\n")[:-1], start=1)
            if not line.endswith(_TORN)
        ]
        for place, (number, line) in enumerate(lines):
            # Two processes that begin at once both write the first line.
            if line + b"\n" == self._header:
                continue
            if place == 0:
                raise SelectError(
                    f"{self.path}: line {number} does not say what these scores are for."
                    f" {_MEND}"
                )
            genes, score = self._entry(number, line)
            self._scores.setdefault(genes, score)
        return bool(lines)

    def _entry(self, number: int, line: bytes) -> tuple[Genes, float]:
        where = f"{self.path}: line {number}"
        try:
            found = read(_Entry, parse_json(line, where), where)
        except FormatError as cause:
            raise SelectError(f"{cause} {_MEND}") from cause
        known = self._key.genes
        if len(found.genes) != len(known) or not all(
            0 <= value < gene.values for gene, value in zip(known, found.genes, strict=True)
        ):
            raise SelectError(
                f"{where}: 'genes' needs a value for each of {len(known)} decisions. {_MEND}"
            )
        return found.genes, found.score

"""Scores on disk: an interrupted search resumes, a wider one starts from the narrower.

One SQLite database per search problem, which several processes may use at once: a row for
each configuration, its genes as ``0,1,0``, and one that says what the scores are for.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from skipc.compiler.errors import SelectError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from skipc.compiler.axes.axis import Gene, Genes

FORMAT = "skipc.evaluations/3"
_MEND = "The file is damaged: delete it, and its configurations are evaluated again."
# A process that is killed leaves what is whole; what losing power leaves is told apart.
_OPENING = """
    PRAGMA journal_mode = TRUNCATE;
    PRAGMA synchronous = OFF;
    CREATE TABLE IF NOT EXISTS problem (key TEXT PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS scores (genes TEXT PRIMARY KEY, score REAL);
"""


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

    @property
    def text(self) -> str:
        """All of it, as JSON."""
        return json.dumps({"format": FORMAT, **asdict(self)})


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
        self.path = folder / f"{hashlib.sha256(key.text.encode()).hexdigest()[:32]}.sqlite"
        self._key = key
        self._note = note
        self._scores: dict[Genes, float] = {}
        self._database: sqlite3.Connection | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, isolation_level=None)
            self._read(self._database)
        except (OSError, sqlite3.OperationalError) as cause:
            self._stop(cause)
        except sqlite3.DatabaseError as cause:
            self.close()
            raise SelectError(f"{self.path}: {cause}. {_MEND}") from cause
        except BaseException:
            self.close()
            raise

    @property
    def scores(self) -> Mapping[Genes, float]:
        """The score of every configuration evaluated so far, also by earlier runs."""
        return self._scores

    def add(self, genes: Genes, score: float) -> None:
        """Keeps a score, at once on disk; one that is not finite is for nobody to read."""
        if genes in self._scores or not math.isfinite(score):
            return
        self._scores[genes] = score
        if self._database is None:
            return
        row = ",".join(map(str, genes)), float(score)
        try:
            self._database.execute("INSERT OR IGNORE INTO scores VALUES (?, ?)", row)
        except sqlite3.Error as cause:
            self._stop(cause)

    def close(self) -> None:
        """Closes the file; further scores are kept in memory only."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _stop(self, cause: Exception) -> None:
        self.close()
        reason = getattr(cause, "strerror", None) or str(cause)
        self._note(
            f"{self.path}: evaluated configurations can no longer be cached: {reason}. The"
            " search goes on; what it finds from here on is not kept for the next one. Free"
            " some space there, or give another folder with --cache."
        )

    def _read(self, database: sqlite3.Connection) -> None:
        database.executescript(_OPENING)
        database.execute("INSERT OR IGNORE INTO problem VALUES (?)", (self._key.text,))
        if database.execute("SELECT key FROM problem").fetchall() != [(self._key.text,)]:
            raise SelectError(f"{self.path}: holds the scores of something else. {_MEND}")
        known = self._key.genes
        for text, score in database.execute("SELECT genes, score FROM scores ORDER BY rowid"):
            genes = tuple(int(value) for value in str(text).split(",") if value.isdecimal())
            if len(genes) != len(known) or not all(
                value < gene.values for gene, value in zip(known, genes, strict=True)
            ):
                raise SelectError(
                    f"{self.path}: {text!r}: genes need a value for each of {len(known)}"
                    f" decisions. {_MEND}"
                )
            if not isinstance(score, float) or not math.isfinite(score):
                raise SelectError(
                    f"{self.path}: {text!r}: the score {score!r} is no finite number. {_MEND}"
                )
            self._scores[genes] = score

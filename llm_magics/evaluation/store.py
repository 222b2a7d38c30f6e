"""Answers on disk, by exact prompt, model and options, so that nothing is asked twice.

One SQLite file: every answer is written in a transaction of its own, so that a kill leaves all answers before it.
The file is a cache. Where it is damaged it is made anew, and where it cannot be written an evaluation goes on
without it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

from ..values.answers import Usage

LARGEST = 256 << 20
"""Bytes of answers that are kept; the ones not used for the longest time go first."""

_EVERY = 2000  # answers written between two looks at the size
_TABLE = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value TEXT NOT NULL, used REAL NOT NULL)"


@dataclasses.dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What is kept of an answer.

    Attributes:
        text: the final answer.
        reasoning: what came before it.
        parsed: whether a final answer was found.
        stop_reason: why it ended.
        usage: what it cost when it was made.
    """

    text: str
    reasoning: str
    parsed: bool
    stop_reason: str
    usage: Usage


class AnswerStore:
    """Answers by key. To be used from the thread that made it.

    Args:
        file: the database; made where there is none.
        largest: bytes of answers at most.
    """

    def __init__(self, file: Path, *, largest: int = LARGEST) -> None:
        self._largest = largest
        self._written = 0
        self._connection = _open(file)

    def get(self, key: str) -> StoredAnswer | None:
        """The answer of a key; None where there is none that can be read."""
        with contextlib.suppress(sqlite3.Error, ValueError, TypeError, KeyError):
            row = self._connection.execute("SELECT value FROM answers WHERE key = ?", (key,)).fetchone()
            if row is not None:
                self._connection.execute("UPDATE answers SET used = ? WHERE key = ?", (time.time(), key))
                record = json.loads(row[0])
                return StoredAnswer(**{**record, "usage": Usage(**record["usage"])})
        return None

    def put(self, key: str, answer: StoredAnswer) -> None:
        """Keep an answer; on a full disk nothing is kept."""
        with contextlib.suppress(sqlite3.Error):
            value = json.dumps(dataclasses.asdict(answer))
            self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (key, value, time.time()))
            self._written += 1
            if self._written % _EVERY == 0:
                self._shrink()

    def close(self) -> None:
        """Bring the file to its size and close it."""
        with contextlib.suppress(sqlite3.Error):
            self._shrink()
            self._connection.close()

    def _shrink(self) -> None:
        """Delete the answers that were not used for the longest time."""
        (total,) = self._connection.execute("SELECT COALESCE(SUM(LENGTH(value)), 0) FROM answers").fetchone()
        while total > self._largest:
            oldest = "SELECT key FROM answers ORDER BY used LIMIT (SELECT 1 + COUNT(*) / 10 FROM answers)"
            self._connection.execute(f"DELETE FROM answers WHERE key IN ({oldest})")
            (total,) = self._connection.execute("SELECT COALESCE(SUM(LENGTH(value)), 0) FROM answers").fetchone()


def key_of(*parts: Any) -> str:
    """The key of everything that decides an answer.

    Args:
        parts: values that JSON can hold.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _open(file: Path) -> sqlite3.Connection:
    """The database, made anew where it cannot be read.

    Raises:
        OSError: it cannot be made.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    # Answers may hold what nobody else should read. SQLite gives its log the permissions of the database.
    file.touch(mode=0o600)
    file.chmod(0o600)
    try:
        return _connected(file)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # locked, read-only, or on a full disk: not damaged
            raise OSError(f"{file} cannot be opened: {error}") from error
        for part in (file, Path(f"{file}-wal"), Path(f"{file}-shm")):
            part.unlink(missing_ok=True)
        file.touch(mode=0o600)
        return _connected(file)


def _connected(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=10, isolation_level=None)  # each statement is a transaction
    try:
        # With a log written ahead, a transaction needs no wait for the disk; a kill of this process loses nothing.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(_TABLE)
    except BaseException:
        connection.close()
        raise
    return connection

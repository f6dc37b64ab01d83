"""Cursors: opaque, good for one question, understood by whoever shares the secret."""

from __future__ import annotations

import base64
import threading
from pathlib import Path

import pytest

from department_adapters.cursors import Cursors, kept_secret

SECRET = b"0123456789abcdef0123456789abcdef"
QUESTION = [b"/people", b"city=Nanning"]


def test_a_cursor_leads_back_to_its_place_and_shows_nothing_of_it() -> None:
    cursors = Cursors(SECRET)
    cursor = cursors.seal(b"450102199001010011", QUESTION)
    assert Cursors(SECRET).open(cursor, QUESTION) == b"450102199001010011"
    assert cursor == cursors.seal(b"450102199001010011", QUESTION)
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert b"4501" not in base64.urlsafe_b64decode(cursor + "==")


def test_a_cursor_of_another_question_or_secret_is_refused() -> None:
    cursor = Cursors(SECRET).seal(b"x", QUESTION)
    for cursors, question in (
        (Cursors(SECRET), [b"/people", b"city=Liuzhou"]),
        (Cursors(SECRET), [b"/people"]),
        (Cursors(SECRET), [b"/peoplecity=Nanning", b""]),
        (Cursors(SECRET[::-1]), QUESTION),
        (Cursors(), QUESTION),
    ):
        with pytest.raises(ValueError, match="cursor"):
            cursors.open(cursor, question)
    assert Cursors(SECRET).open(cursor, QUESTION) == b"x"


@pytest.mark.parametrize("cursor", ["", "x", "====", "AAAA", "王", "A" * 5000, "\0", "' OR 1=1 --", "A" * 64])
def test_what_nobody_made_is_refused(cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        Cursors(SECRET).open(cursor, QUESTION)


def test_every_changed_character_is_noticed() -> None:
    cursors = Cursors(SECRET)
    cursor = cursors.seal(b"place", QUESTION)
    for index in range(len(cursor) - 1):  # the last one has bits that stand for nothing
        changed = cursor[:index] + ("A" if cursor[index] != "A" else "B") + cursor[index + 1 :]
        with pytest.raises(ValueError, match="cursor"):
            cursors.open(changed, QUESTION)


def test_the_secret_is_made_once_and_is_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "cursor.key"
    made: list[bytes] = []
    threads = [threading.Thread(target=lambda: made.append(kept_secret(file))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert set(made) == {file.read_bytes().strip()}
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cursor.key").write_text("short\n")
    with pytest.raises(ValueError, match="holds no secret"):
        kept_secret(tmp_path / "cursor.key")

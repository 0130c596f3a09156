"""Folders that are searched, names that are too long, files that one process changes at a time."""

import os
import threading
import time

import pytest

from nucleate.errors import OutputError
from nucleate.files import excess_bytes
from nucleate.folders import walk
from nucleate.locks import alone


def _touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_links_to_folders_are_followed_once_and_not_in_circles(tmp_path):
    root = tmp_path / "root"
    _touch(root / "z" / "a.png", root / "b.png", tmp_path / "away" / "c.png", root / ".h" / "d.png")
    (root / "a_link").symlink_to(root / "z")  # its own name counts, which is below the root
    (root / "away_1").symlink_to(tmp_path / "away")
    (root / "away_2").symlink_to(tmp_path / "away")
    (root / "z" / "up").symlink_to(tmp_path)  # everything would be there a second time
    (root / "z" / "loop").symlink_to(".")
    (root / "dead").symlink_to("nothing")
    (root / "link.png").symlink_to(root / "b.png")
    with pytest.warns(UserWarning, match="leads back") as caught:
        names = [name for name, _ in walk(root)]
    assert sorted(str(w.message).partition(":")[0] for w in caught) == [
        str(root / "z" / "loop"), str(root / "z" / "up"),
    ]  # fmt: skip
    assert names == ["away_1/c.png", "b.png", "dead", "link.png", "z/a.png"]  # dead: not silently


def test_some_folders_count_as_files(tmp_path):
    _touch(tmp_path / "a.zarr" / "b.png", tmp_path / "c" / "d.png")
    assert [name for name, _ in walk(tmp_path, (".zarr",))] == ["a.zarr", "c/d.png"]


def test_a_name_has_room_for_that_of_the_unfinished_file(tmp_path):
    most = os.pathconf(tmp_path, "PC_NAME_MAX")
    assert excess_bytes(tmp_path / "new" / ("a" * (most - 15))) == 0
    assert excess_bytes(tmp_path / "new" / ("ä" * (most // 2))) == 15 - most % 2


def test_one_process_at_a_time(tmp_path):
    file, order = tmp_path / "a.json", []

    def other():
        with alone(file):
            order.append("second")

    with alone(file):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert not list(tmp_path.iterdir())


def test_a_lock_that_was_left_is_removed(tmp_path):
    (tmp_path / ".a.json.lock").touch()
    started = time.monotonic()
    with alone(tmp_path / "a.json", patience_s=0.2):
        assert 0.2 <= time.monotonic() - started < 5
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(OutputError, match="a"), alone(tmp_path / "a" / "b.json"):
        pass

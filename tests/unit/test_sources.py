"""Names of files and addresses as systems and services write them."""

import pytest

from nucleate.errors import InputError
from nucleate.readers.remote import find_remote, url_name
from nucleate.slides.find_sources import expand_sources, find_sources, result_stems

SIGNED = "?X-Amz-Credential=AKIA/20260101/eu&X-Amz-Signature=a*b[c]%2Fd"


def _touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (f"https://bucket.s3.amazonaws.com/a/tile.png{SIGNED}", "tile.png"),
        ("https://storage.googleapis.com/b/tile.svs?X-Goog-Signature=0a", "tile.svs"),
        ("https://a.blob.core.windows.net/c/my%20tile.png?sv=1&sig=a%2Fb%3D", "my tile.png"),
        ("s3://bucket/what?.png", "what?.png"),
        ("a/b.png", "b.png"),
    ],
)
def test_a_signature_is_no_part_of_the_name(url, name):
    assert url_name(url) == name
    assert result_stems([url])[url] == name.rpartition(".")[0]


def test_two_signed_addresses_of_one_name_get_folders():
    urls = [f"https://host/{part}/t.png{SIGNED}" for part in "ab"]
    assert list(result_stems(urls).values()) == ["a/t", "b/t"]


def test_an_address_without_a_name_is_refused():
    pytest.importorskip("aiohttp")
    with pytest.raises(InputError, match="no name of an image"):
        find_remote("http://127.0.0.1:9/download?id=5", lambda name: name.endswith(".png"))


def test_a_signed_address_is_fetched(tmp_path):
    pytest.importorskip("aiohttp")
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    from nucleate.readers.remote import fetch

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    _touch(tmp_path / "there" / "tile.png")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "there"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/tile.png?sig=a"
        assert expand_sources([url]) == [url]
        copy = fetch(url, tmp_path / "here")
    finally:
        server.shutdown()
        server.server_close()
    assert copy.name == "tile.png"
    assert copy.read_bytes() == b"x"


@pytest.mark.parametrize("folder", ["a[1]", "b*", "c?d", "[x]/e[2]"])
def test_folders_count_as_they_are_written_in_globs(tmp_path, folder):
    file = tmp_path / folder / "t[1].png"
    _touch(file, tmp_path / "a1" / "u.png", tmp_path / "bb" / "u.png")
    for pattern in (file, tmp_path / folder, tmp_path / folder / "*.png", tmp_path / folder / "t*"):
        assert find_sources([str(pattern)]) == [file]


def test_a_link_to_nothing_is_not_silent(tmp_path):
    _touch(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "c.txt").symlink_to(tmp_path / "gone.txt")
    assert [path.name for path in find_sources([tmp_path])] == ["a.png", "b.png"]

"""Names of files and addresses as systems and services write them."""

import re
import traceback
from pathlib import Path

import pytest

from nucleate.cli.terminal import command_line
from nucleate.errors import InputError
from nucleate.readers.opening import open_source
from nucleate.readers.remote import fetch, find_remote, shown, url_name
from nucleate.slides.find_sources import expand_sources, find_sources, result_stems
from nucleate.slides.segment_many import _Batch
from tests.errors import says

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


@pytest.mark.parametrize(
    ("first", "second"), [("t.png", "T.png"), ("\u00e9.png", "e\u0301.png"), ("t.png", "T.tif")]
)
def test_results_never_overwrite_each_other_where_case_does_not_count(tmp_path, first, second):
    _touch(tmp_path / first, tmp_path / second)
    with pytest.raises(InputError, match="case and Unicode form do not count"):
        expand_sources([tmp_path])
    _touch(tmp_path / "a" / first, tmp_path / "b" / second)
    stems = list(result_stems([tmp_path / "a" / first, tmp_path / "b" / second]).values())
    assert stems == [f"a/{first.partition('.')[0]}", f"b/{second.partition('.')[0]}"]


SECRETS = {
    "https://host/a/t.png?X-Amz-Signature=a*b%2Fd&x=1": "https://host/a/t.png",
    "https://me:word@host/a/t.png#x": "https://host/a/t.png",
    "s3://key:word@bucket/a/t.png": "s3://bucket/a/t.png",
    "https://host/my t.png?sig=x y": "https://host/my t.png",
}


@pytest.mark.parametrize("url", SECRETS)
def test_signatures_and_passwords_are_shown_nowhere(url, monkeypatch):
    assert shown(url) == SECRETS[url]
    with pytest.raises(InputError) as caught:
        result_stems([url, f"{url}&y"]) if "?" in url else fetch(url + ".mrxs", Path("no"))
    assert not {"sig", "word", "Signature"} & set(re.split(r"[^A-Za-z]+", str(caught.value)))
    monkeypatch.setattr("sys.argv", ["nucleate", "segment", url, f"--set=data.root={url}"])
    assert not {"sig", "word", "Signature"} & set(re.split(r"[^A-Za-z]+", command_line()))


def test_an_error_of_a_service_may_quote_the_address(tmp_path):
    pytest.importorskip("aiohttp")
    url = "http://127.0.0.1:9/a/t.png?sig=secret"
    with pytest.raises(InputError, match=r"127.0.0.1:9/a/t.png: cannot be reached") as caught:
        fetch(url, tmp_path)
    printed = "".join(traceback.format_exception(caught.value))
    assert "secret" not in printed


def test_rows_of_a_signed_source_have_no_signature(tmp_path):
    batch = _Batch.__new__(_Batch)
    batch.first_error, batch._sources, batch._tell = None, ["a"], lambda _: None
    url = "https://host/a/t.png?sig=secret"
    row = batch._failed(url, InputError(f"{url}: cannot be read (GET {url})."))
    assert row == {
        "source": "https://host/a/t.png", "status": "failed",
        "error": "https://host/a/t.png: cannot be read (GET https://host/a/t.png).",
    }  # fmt: skip


def test_slides_of_other_programs_in_a_folder_are_not_skipped_silently(tmp_path):
    _touch(tmp_path / "a.png", tmp_path / "b.czi", tmp_path / "c" / "d.VSI", tmp_path / "e.pdf")
    with pytest.warns(UserWarning, match=r"2 files .* are skipped \(b.czi, c/d.VSI\)"):
        assert [path.name for path in find_sources([tmp_path])] == ["a.png"]


def test_links_in_a_circle_are_a_source_that_fails(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    assert [path.name for path in find_sources([tmp_path])] == ["a.png", "b.png"]
    with pytest.raises(InputError, match=says("a.png")):
        open_source(tmp_path / "a.png")


def test_an_address_without_a_name_is_refused():
    pytest.importorskip("aiohttp")
    with pytest.raises(InputError, match="no name of an image"):
        find_remote("http://127.0.0.1:9/download?id=5", lambda name: name.endswith(".png"))


def test_a_signed_address_is_fetched(tmp_path):
    pytest.importorskip("aiohttp")
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

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

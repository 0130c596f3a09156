"""Nobody is called, and nothing is written but results and the cache of compiled loops.

Commands run as separate processes under a spy, which their child processes inherit.
"""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml
from PIL import Image

import nucleate as package
from tests.data import folder
from tests.integration.test_train import TINY
from tests.synthetic import tissue

SPY = """
import os, sys

LOG, ALLOWED = os.environ["SPY_LOG"], os.environ["SPY_ALLOWED"].split(os.pathsep)
LOOPBACK = (None, "", b"", "localhost", "127.0.0.1", "::1")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def spy(event, args):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        bad = args[0] not in LOOPBACK
    elif event in ("socket.connect", "socket.sendto"):
        bad = isinstance(args[1], tuple) and args[1][0] not in LOOPBACK
    elif event == "open":
        bad = bool(args[2] & WRITES) and outside(args[0])
    elif event in ("os.mkdir", "os.rename"):
        bad = outside(args[event == "os.rename"])
    else:
        return
    if bad:
        fd = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(fd, f"{event} {args} of {sys.argv}\\n".encode())
        os.close(fd)
        if event.startswith("socket."):
            raise OSError("there is no network")


def outside(path):
    if isinstance(path, int):
        return False
    path = os.path.abspath(os.fsdecode(path))
    return not any(path == place or path.startswith(place + os.sep) for place in ALLOWED)


sys.addaudithook(spy)
"""
UNSET = (
    "CI", "TF_BUILD", "JENKINS_URL", "NNCF_CI", "NNCF_DEV",  # keep OpenVINO and NNCF quiet
    "ORT_DISABLE_TELEMETRY",  # keeps ONNX Runtime quiet
    "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
)  # fmt: skip


class Watched:
    """A place where commands run: an empty home, a folder for results, and the spy's log."""

    def __init__(self, root):
        self.out, self.home, self.log = root / "out", root / "home", root / "log"
        for name in ("out", "home", "cwd", "t", "spy"):
            (root / name).mkdir()
        (root / "spy" / "sitecustomize.py").write_text(SPY)
        compiled = Path(package.__file__).parent / "__pycache__"
        kernels = compiled.parent / "geometry" / "kernels" / "__pycache__"
        allowed = [self.out, root / "t", self.log, compiled, kernels, "/dev"]
        source = Path(package.__file__).parents[1]
        kept = {k: v for k, v in os.environ.items() if k not in UNSET}
        self.options = {
            "cwd": root / "cwd", "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT,
            "text": True,
            "env": kept | {
                "PYTHONPATH": os.pathsep.join(map(str, (root / "spy", source))),
                "SPY_LOG": str(self.log), "SPY_ALLOWED": os.pathsep.join(map(str, allowed)),
                "HOME": str(self.home), "USERPROFILE": str(self.home),
                "TMPDIR": str(root / "t"), "PYTHONDONTWRITEBYTECODE": "1",
            },
        }  # fmt: skip

    def start(self, *words):
        words = [sys.executable, *map(str, words)]
        return subprocess.Popen(words, **self.options)

    def run(self, *words):
        process = self.start(*words)
        said = process.communicate()[0]
        assert process.returncode == 0, said
        self.check()

    def check(self):
        assert not self.log.exists(), self.log.read_text()
        assert list(self.home.iterdir()) == []
        assert list(self.options["cwd"].iterdir()) == []


@pytest.fixture
def watched(tmp_path):
    return Watched(tmp_path)


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.getaddrinfo('example.org', 443)",
        "import socket; socket.socket().connect(('192.0.2.1', 9))",
        "open('a', 'w')",
        "import pathlib; (pathlib.Path.home() / 'intel').mkdir()",
        "import os; os.fork() or (open('a', 'w'), os._exit(0)); os.wait()",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'open(\"a\", \"w\")'])",
    ],
)
def test_the_spy_sees(watched, code):
    watched.start("-c", code).communicate()
    assert watched.log.read_text().count(" of [") == 1


@pytest.mark.parametrize("module", ["openvino", "nncf", "onnxruntime"])
def test_packages_are_quiet_where_nucleate_comes_first(watched, module):
    """What ONNX Runtime sends from its own threads shows by what it writes into the home."""
    watched.run("-c", f"import nucleate, {module}")


def test_segment_and_view_are_quiet(watched):
    image = watched.out / "a.png"
    Image.fromarray(tissue(256, 256, 20, 0)[0]).save(image)
    words = ("--mpp", 0.25, "-o", watched.out / "a", "--threads", 1, "--decoders", 1)
    watched.run("-m", "nucleate", "segment", image, *words)
    server = watched.start("-m", "nucleate", "view", watched.out / "a", "--no-open")
    try:
        address = next(line for line in server.stdout if line.startswith("http")).strip()
        with urllib.request.urlopen(address) as page:  # noqa: S310  # on this machine
            assert page.status == 200
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate()
    watched.check()


IN_ONE_PROCESS = """
import sys
from nucleate.cli import main

def command(*words):
    sys.argv = ["nucleate", *words]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise

if __name__ == "__main__":
    command("train", "{out}/tiny.yaml", "-o", "{out}/run", "--set", "data.root={out}",
            "--set", "train.steps=3")
    from nucleate.training import quantise
    quantise.CROPS = 4
    command("quantise", "{out}/run", "--set", "data.root={out}", "--most", "100")
"""


def test_training_is_quiet(watched):
    folder.make(watched.out / "data", 4)
    (watched.out / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    script = watched.out / "script.py"
    script.write_text(IN_ONE_PROCESS.format(out=watched.out.as_posix()))
    watched.run(script)
    assert (watched.out / "run" / "model" / "model.int8.onnx").exists()

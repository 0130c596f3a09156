"""Make executed notebooks of the tutorials: python docs/programs/notebooks.py DATA [NAME …]

The tutorials in docs/tutorials are the source; docs/notebooks is what running them on the real
data gave. DATA has MoNuSeg, CryoNuSeg, TNBC and slides. Trainings are cut short (what was changed
stands in the notebook): a notebook shows the way, numbers are on the results page.
"""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).parents[2]
TUTORIALS, NOTEBOOKS = ROOT / "docs/tutorials", ROOT / "docs/notebooks"
SHORTER = {"train.steps": "600", "train.validate_every": "200", "train.ema": "0.98"}
_SHOWN = ("pip install", "nucleate view", "nucleate serve")
# kernels ask programs for colours and moving bars, which a page does not show
_PLAIN = "env -u FORCE_COLOR -u CLICOLOR_FORCE"
_LARGE = 60_000  # bytes of an image from which it is kept as JPEG
FENCE = re.compile(r"```(\w*)\n(.*?)```\n?", re.DOTALL)


def main(data: Path, names: list[str]) -> None:
    """Execute the named tutorials, or all."""
    NOTEBOOKS.mkdir(exist_ok=True)
    for page in sorted(TUTORIALS.glob("*.md")):
        if names and page.stem not in names:
            continue
        notebook = as_notebook(page.read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as folder:
            _lay_out(data.resolve(), Path(folder))
            client = NotebookClient(
                notebook, timeout=3600, resources={"metadata": {"path": folder}}
            )
            shown = [cell.source for cell in notebook.cells]
            for cell in notebook.cells:  # through a pipe, where commands draw no moving bars
                if cell.cell_type == "code":
                    cell.source = re.sub(
                        r"^!(.*)$", rf"!{_PLAIN} \1 2>&1 | cat", cell.source, flags=re.M
                    )
            client.execute()
            for cell, source in zip(notebook.cells, shown, strict=True):
                cell.source = source
            _tidy(notebook, folder)
        nbformat.write(notebook, NOTEBOOKS / f"{page.stem}.ipynb")
        print(page.stem)


def as_notebook(text: str) -> nbformat.NotebookNode:
    """Return a page as a notebook: prose, Python, and shell commands behind `!`."""
    cells = []
    at = 0
    for match in FENCE.finditer(text):
        language, code = match.groups()
        if language not in ("", "python"):
            continue
        cells.append(nbformat.v4.new_markdown_cell(_links(text[at : match.start()].strip())))
        code = code.rstrip()
        cells.append(nbformat.v4.new_code_cell(code if language else _shell(code)))
        at = match.end()
    cells.append(nbformat.v4.new_markdown_cell(_links(text[at:].strip())))
    notebook = nbformat.v4.new_notebook(cells=[c for c in cells if c.source])
    notebook.metadata["kernelspec"] = {
        "name": "python3", "display_name": "Python 3", "language": "python",
    }  # fmt: skip
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # the same notebook for the same page
        if cell.cell_type == "code":
            cell.source = _cut_short(cell.source)
    return notebook


def _shell(code: str) -> str:
    """Return commands as a notebook runs them; the others are shown only."""
    lines = []
    for line in code.splitlines():
        # official test images are for final numbers, not for a model that was cut short
        runs = not line.startswith(_SHOWN) and "MoNuSegTestData" not in line
        lines.append(f"!{line}" if runs else f"# {line}")
    return "\n".join(lines)


def _cut_short(code: str) -> str:
    """Return code whose trainings are short, and say so in it."""
    shell = " ".join(f"--set {key}={value}" for key, value in SHORTER.items())
    note = "# cut short for this notebook: without the last three changes it is the tutorial's\n"
    if "!nucleate train" in code:
        code = "\n".join(
            f"{line} {shell}" if line.startswith("!nucleate train") and "--resume" not in line
            else line
            for line in code.splitlines()
        )  # fmt: skip
        return note + code
    if "changes = [" in code:
        more = "".join(f'    "{key}={value}",\n' for key, value in SHORTER.items())
        return note + code.replace("]\nrecipe", f"{more}]\nrecipe")
    return code


def _links(text: str) -> str:
    """Return prose whose links, relative to the tutorials, work in the notebooks beside them."""
    text = text.replace("The same as an executed notebook", "The same as a page")
    text = re.sub(r"\]\(\.\./notebooks/([\w-]+)\.ipynb", r"](../tutorials/\1.md", text)
    return re.sub(r"\]\((?!http|\.\.)([\w-]+)\.md", r"](../tutorials/\1.md", text)


def _lay_out(data: Path, folder: Path) -> None:
    """Put what the pages name where they name it."""
    (folder / "data").symlink_to(data)
    for path in (data / "TNBC").rglob("*.*"):
        place = "heldout" if path.name.startswith(("10_", "11_")) else "mydata"
        part = folder / place / path.parent.name
        part.mkdir(parents=True, exist_ok=True)
        (part / path.name).symlink_to(path)
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    slide = data / "slides/aperio_svs/CMU-1-Small-Region.svs"
    shutil.copy(slide, folder / slide.name)
    shutil.copy(_tile(folder), folder / "tile.png")
    os.environ.update(NO_COLOR="1", COLUMNS="100")


def _tile(folder: Path) -> Path:
    """Return an image at 0.25 µm per pixel: a part of the bundled example, enlarged."""
    from nucleate.readers.opening import open_source
    from nucleate.readers.reader import Reader
    from nucleate.results.images import write_png

    source = open_source(ROOT / "tests/data/keratin.tif")
    path = folder / "cut.png"
    write_png(path, Reader(source, float(source.mpp or 0.5)).read((0, 0, 1000, 1000), 0.25))
    return path


def _tidy(notebook: nbformat.NotebookNode, folder: str) -> None:
    """Join what was printed, leave out what differs from run to run, and make images small."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        printed = "".join(o["text"] for o in cell.outputs if o.output_type == "stream")
        others = [o for o in cell.outputs if o.output_type != "stream"]
        lines = [
            line
            for line in printed.replace(f"{folder}/", "").replace(folder, ".").splitlines()
            if line.strip() and not _noise(line)
        ]
        failed = next((line for line in lines if line.startswith("nucleate: ")), None)
        if failed is not None:
            sys.exit(f"{cell.source}: {failed}")
        cell.outputs = [_smaller(output) for output in others]
        if lines:
            text = "\n".join(lines) + "\n"
            cell.outputs.insert(0, nbformat.v4.new_output("stream", name="stdout", text=text))


def _smaller(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return an output whose image is a JPEG, if that is what makes it large."""
    png = output.get("data", {}).get("image/png")
    if png is not None and len(png) > _LARGE:
        image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
        file = io.BytesIO()
        image.save(file, "JPEG", quality=80)
        del output["data"]["image/png"]
        output["data"]["image/jpeg"] = base64.b64encode(file.getvalue()).decode()
    return output


def _noise(line: str) -> bool:
    return bool(re.match(r"step \d+/\d+ · [\d.]+ s/step · \d+ min left$", line))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

"""Run the Python example of the README, and write what it prints below it.

python docs/programs/readme_example.py

The counts are those of this machine: int8 rounds differently on others.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
EXAMPLE = re.compile(r"(```python\n(import nucleate\n.*?)```\n\n)```text\n.*?```", re.DOTALL)


def main() -> None:
    """Write the block."""
    text = README.read_text(encoding="utf-8")
    found = EXAMPLE.search(text)
    if found is None:
        raise SystemExit("README.md has no Python example with its output. Add a block `text`.")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "src").symlink_to(ROOT / "src")
        words = [sys.executable, "-c", found[2]]
        done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=folder)
    block = f"{found[1]}```text\n{done.stdout}```"
    README.write_text(text[: found.start()] + block + text[found.end() :], encoding="utf-8")


if __name__ == "__main__":
    main()

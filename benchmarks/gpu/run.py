"""Check and measure nucleate on a GPU within a time budget: see run.sh.

Each finding is written to OUT/gpu.json at once, so that a run that is stopped keeps what it has.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
PARTS = {  # name -> module and function; loaded when asked for, as each needs other wheels
    "check": ("gpu.check", "engines_and_tiles"),
    "resume": ("gpu.check", "killed_and_resumed"),
    "network": ("gpu.measure", "network"),
    "slides": ("gpu.measure", "slides"),
    "train": ("gpu.train", "train"),
    "generalise": ("generalise.run", "part"),
}


@dataclass
class Findings:
    """What was found so far, on disk at any time.

    Attributes:
        path: of the JSON file.
        device: "cuda" or "cpu".
        started: when the budget began to run, in seconds of `time.time()`.
        end: when it is used up.
        content: the JSON.
    """

    path: Path
    device: str
    started: float
    end: float
    content: dict[str, Any] = field(default_factory=dict)

    def left(self, share: float = 1.0) -> float:
        """Return the seconds that are left of the first `share` of the budget."""
        return self.started + share * (self.end - self.started) - time.time()

    def put(self, part: str, name: str, value: object) -> None:
        """Write down one finding and print it."""
        self.content.setdefault(part, {})[name] = value
        self.path.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
        print(f"[{self.left():4.0f} s left] {part}: {name}: {json.dumps(value)}", flush=True)


def machine(device: str) -> dict[str, Any]:
    """Return what the figures were measured on."""
    import torch

    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")),
        platform.processor(),
    ) if Path("/proc/cpuinfo").exists() else platform.processor()  # fmt: skip
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": model,
        "cores": __import__("os").cpu_count(),
        "commit": commit or "unknown",
        "date": time.strftime("%Y-%m-%d"),
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu": properties.name, "gpu_gib": round(properties.total_memory / 2**30, 1)}
    return found


def main() -> None:
    """Run the parts one after the other; a part that fails is written down, the next one runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--started", type=float, default=time.time(), help="Unix time.")
    parser.add_argument(
        "--parts", default="check,resume,network,slides,train",
        help="Which, comma-separated; also: generalise, the judge of benchmarks/generalise.",
    )  # fmt: skip
    parser.add_argument("--ideas", default="", help="Of the judge, comma-separated.")
    parser.add_argument("--steps", type=int, help="Of the judge: for a trial.")
    options = parser.parse_args()
    end = options.started + options.seconds
    found = Findings(options.out / "gpu.json", options.device, options.started, end)
    found.put("about", "machine", machine(options.device))
    words = f"--device {options.device} --seconds {options.seconds:g} --parts {options.parts}"
    found.put("about", "command", f"benchmarks/gpu/run.sh OUT {words}")
    judged = {"ideas": options.ideas, "steps": options.steps}
    failed = []
    for name in options.parts.split(","):
        try:
            module, function = PARTS[name]
            run = getattr(importlib.import_module(f"benchmarks.{module}"), function)
            run(found, **judged if name == "generalise" else {})
        except Exception as error:  # one part must not cost the others
            traceback.print_exc()
            failed.append(name)
            found.put("failed", name, f"{type(error).__name__}: {error}"[:500])
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; see the log")


if __name__ == "__main__":
    main()

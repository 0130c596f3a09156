"""Ledger of uses of official test images."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

from nucleate.environment import git_commit
from nucleate.errors import InputError
from nucleate.evaluation.report import Report
from nucleate.files import read_text, write_text

LEDGER = ("date", "commit", "model", "sha256", "images", "aji", "pq", "dice", "command")


def check_ledger(ledger: Path) -> list[dict[str, str]]:
    """Return the rows of a ledger; none if the file does not exist yet.

    Raises:
        InputError: the file exists, but is not a ledger.
    """
    if not ledger.exists():
        return []
    reader = csv.DictReader(io.StringIO(read_text(ledger)))
    if tuple(reader.fieldnames or ()) != LEDGER:
        raise InputError(f"{ledger}: not a ledger of test uses. Choose another file with --ledger.")
    return list(reader)


def log_test_use(ledger: Path, name: str, digest: str, report: Report, command: str) -> None:
    """Append one row to the ledger of uses of official test images.

    Args:
        ledger: CSV file; created if missing.
        name: what was evaluated: a model, or a folder of predictions.
        digest: SHA-256 of the model's weights, "files" for predictions.
        report: the scores.
        command: command that repeats the evaluation.

    Raises:
        InputError: the file is not a ledger.
    """
    means = report.means()
    row = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": git_commit() or "",
        "model": name,
        "sha256": digest,
        "images": len(report.images),
        **{name: round(means[name]["mean"], 4) for name in ("aji", "pq", "dice")},
        "command": command,
    }
    rows = check_ledger(ledger)
    text = io.StringIO()
    writer = csv.DictWriter(text, LEDGER, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*rows, row])
    write_text(ledger, text.getvalue())

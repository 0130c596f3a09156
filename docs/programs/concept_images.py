"""Draw the images of the pages on concepts: targets.png and metrics.png."""

from __future__ import annotations

from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np

from nucleate.targets import encode

mpl.use("Agg")
import matplotlib.pyplot as plt

IMAGES = Path(__file__).parents[1] / "images"
MAPS = ["foreground", "distance", "distance_in_image", "boundary"]


def targets() -> None:
    """Draw four nuclei, two of them touching, and their maps."""
    labels = np.zeros((90, 110), np.int32)
    for number, (x, y, a, b, turn) in enumerate(
        [(30, 32, 22, 15, 20), (62, 42, 18, 14, -35), (88, 70, 7, 6, 0), (30, 72, 12, 9, 10)], 1
    ):
        cv2.ellipse(labels, (x, y), (a, b), turn, 0, 360, number, -1)
    maps = encode(labels, MAPS)
    figure, axes = plt.subplots(1, 5, figsize=(13, 2.6), layout="constrained")
    shown = np.ma.masked_equal(labels, 0)
    axes[0].imshow(shown, cmap="tab10", vmin=1, vmax=10, interpolation="nearest")
    axes[0].set_title("labels")
    for axis, name in zip(axes[1:], MAPS, strict=True):
        drawn = axis.imshow(maps[name], cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(name)
    figure.colorbar(drawn, ax=axes[-1])
    _save(figure, axes, "targets")


def metrics() -> None:
    """Draw the worked example of docs/concepts/metrics.md."""
    truth = [(2, 2), (2, 14), (2, 21), (12, 2), (12, 14)]
    found = [(2, 2, 6, 7), (2, 14, 6, 13), (12, 2, 3, 6), (15, 2, 3, 6), (12, 24, 6, 6)]
    said = ["1: matched", "2", "3: merged", "4: split", "5: missed"]
    figure, axis = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    for (row, column), words in zip(truth, said, strict=True):
        axis.add_patch(plt.Rectangle((column, row), 6, 6, facecolor="#9ecae1", edgecolor="none"))
        axis.text(column + 3, row - 0.5, words, ha="center", fontsize=10)
    for row, column, height, width in found:
        axis.add_patch(
            plt.Rectangle(
                (column, row), width, height, facecolor="none", edgecolor="#d95f02", linewidth=2.5
            )
        )
    axis.text(27, 11.5, "spurious", ha="center", fontsize=10)
    axis.set(xlim=(0, 34), ylim=(20, 0), aspect="equal")
    axis.set_xticks(range(0, 35, 2), minor=False)
    axis.set_yticks(range(0, 21, 2))
    axis.tick_params(labelbottom=False, labelleft=False, length=0)
    axis.grid(color="#dddddd", linewidth=0.5)
    axis.set_axisbelow(True)
    axis.set_title("filled: true nuclei; orange: predicted ones", fontsize=10)
    figure.savefig(IMAGES / "metrics.png", dpi=110)


def _save(figure: plt.Figure, axes: np.ndarray, name: str) -> None:
    for axis in axes:
        axis.axis("off")
    figure.savefig(IMAGES / f"{name}.png", dpi=110)


if __name__ == "__main__":
    targets()
    metrics()

"""Options shared by several commands, each with one name, meaning and help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

RecipeArgument = Annotated[Path, typer.Argument(help="YAML file: one complete experiment.")]
ChangesOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="key.path=value: change one value of the recipe; repeatable."),
]


def model_names() -> list[str]:
    """Return model names for shell completion."""
    from nucleate.models.card import bundled_models

    return list(bundled_models())


ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Bundled model by name, model folder, or run folder.",
        autocompletion=model_names,
    ),
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="auto: a CUDA GPU if PyTorch finds one.")
]
BackendOption = Annotated[
    Literal["auto", "openvino", "torch"],
    typer.Option(help="auto: PyTorch on GPUs, else OpenVINO."),
]
PrecisionOption = Annotated[
    Literal["auto", "f32", "bf16", "f16", "int8"],
    typer.Option(
        help="auto: int8 if the model has it, else f32; f32: the same result everywhere; bf16: "
        "faster on CPUs that support it; f16: for GPUs."
    ),
]
ThreadsOption = Annotated[int, typer.Option(min=0, max=1024, help="CPU threads; 0: all cores.")]
TileOption = Annotated[
    int | None,
    typer.Option(min=64, help="Largest edge of a tile, in pixels; by default the model's."),
]
SensitivityOption = Annotated[
    Literal["low", "normal", "high"],
    typer.Option(help="low: fewer false nuclei; high: more pale nuclei."),
]
TtaOption = Annotated[
    bool, typer.Option("--tta", help="Average over 8 views of every tile; takes 8 times as long.")
]
MppOption = Annotated[
    float | None,
    typer.Option(
        help="Micrometres per pixel of files that state none: 0.25 for a 40x scan, 0.5 for 20x. "
        "A file that states another value is refused."
    ),
]
OptionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--option", help="key=value: option of the data set, such as mpp, group, annotation."
    ),
]

"""nucleate train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nucleate.cli.options import (
    ChangesOption,
    RecipeArgument,
)
from nucleate.cli.terminal import (
    answer,
    show,
)


def train(
    recipe: RecipeArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run folder. Default: runs/NAME.")
    ] = None,
    changes: ChangesOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="None")] = False,
) -> None:
    """Train a model from a recipe (extra 'train').

    Examples:
      nucleate train recipes/laptop.yaml --set data.root=data
      nucleate train recipes/laptop.yaml --resume
    """
    from nucleate.config import load_recipe
    from nucleate.errors import optional
    from nucleate.models.card import read_card

    wanted = load_recipe(recipe, changes)  # reject invalid recipes before slow imports
    optional("torch", "train")
    optional("lightning", "train")
    from nucleate.training.trainer import train_recipe

    model = train_recipe(wanted, Path(), out, resume)
    answer(model=model, metrics=read_card(model).metrics)
    show(f"{model}")

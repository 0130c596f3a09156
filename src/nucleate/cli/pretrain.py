"""Pretrain an encoder on unlabelled images, and study its benefit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nucleate.cli.options import ChangesOption, RecipeArgument
from nucleate.cli.terminal import answer, command_line, say, show, show_table


class _RecipeFirst(TyperGroup):
    """A group in which `pretrain recipe.yaml` is short for `pretrain recipe recipe.yaml`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Insert the command name if it is missing."""
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["recipe", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RecipeFirst,
    no_args_is_help=True,
    help="Pretrain an encoder on images without labels.\n\n"
    "nucleate pretrain RECIPE is short for nucleate pretrain recipe RECIPE.",
)


@app.command("recipe")
def pretrain(
    recipe: RecipeArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run folder. Default: runs/NAME.")
    ] = None,
    changes: ChangesOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run from its last checkpoint.")
    ] = False,
) -> None:
    """Train an encoder on a pretext task (extra 'train').

    Use it in a training with init.from=runs/NAME.

    Example:
      nucleate pretrain recipes/pretrain/relative-position-small.yaml --set data.root=data
    """
    _need_torch()
    from nucleate.pretraining.pretrainer import pretrain_recipe
    from nucleate.pretraining.recipe import PretrainRecipe
    from nucleate.trees import load_tree

    wanted = load_tree(PretrainRecipe, recipe, changes)
    folder = out or Path("runs") / wanted.name
    encoder = pretrain_recipe(wanted, Path(), folder, resume)
    answer(encoder=encoder)
    show(f"{encoder}")


@app.command("study")
def study(
    recipe: RecipeArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder. Default: runs/NAME.")
    ] = None,
    changes: ChangesOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep finished runs, and continue with the others.")
    ] = False,
    jobs: Annotated[
        int, typer.Option(min=1, help="Runs trained at a time, distributed over the GPUs.")
    ] = 1,
    final: Annotated[
        bool, typer.Option("--final", help="Also score the official test images, at the end.")
    ] = False,
    ledger: Annotated[
        Path | None, typer.Option(help="CSV file that records each use of official test images.")
    ] = None,
) -> None:
    """Compare initial weights by number of labels (extra 'train').

    Trains from each of several initial weights, with few and with many labels.

    Example:
      nucleate pretrain study recipes/pretrain/study-small.yaml --set root=data --jobs 2
    """
    _need_torch()
    from nucleate.pretraining.recipe import StudyRecipe
    from nucleate.pretraining.study import run_study
    from nucleate.pretraining.study_plan import StudyOptions
    from nucleate.trees import load_tree

    wanted = load_tree(StudyRecipe, recipe, changes)
    folder = out or Path("runs") / wanted.name
    options = StudyOptions(resume, jobs, final, ledger, command_line())
    found = run_study(recipe, changes or [], Path(), folder, options, say)
    answer(out=folder, **found)
    for title, test in found["tests"].items():
        _show_test(title, test)
    show(f"written to {folder}")


def _need_torch() -> None:
    from nucleate.errors import optional

    optional("torch", "train")
    optional("lightning", "train")
    optional("matplotlib", "train")


def _show_test(title: str, test: dict[str, Any]) -> None:
    """Print one row per label share and initial weights; SD is over seeds."""
    from rich.table import Table

    table = Table(title=f"{title}, {test['images']} images")
    for column in ("labelled", "start", "AJI ± SD", "gain (95 % interval)"):
        table.add_column(column, justify="left" if column == "start" else "right", no_wrap=True)
    for share, rows in test["labelled"].items():
        for start, row in rows.items():
            sd, gain = row["aji"]["sd"], row.get("gain")
            aji = f"{row['aji']['mean']:.3f}" + ("" if sd is None else f" ± {sd:.3f}")
            said = ""
            if gain is not None:
                said = f"{gain['difference']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"
            table.add_row(f"{share} %", start, aji, said)
    show_table(table)

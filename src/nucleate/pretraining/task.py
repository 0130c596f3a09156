"""The data set and the Lightning module of a pretext task."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from nucleate.pretraining.corpus import TissueTile, draw_window, shares_of
from nucleate.pretraining.pretext import Pretext
from nucleate.pretraining.recipe import PretrainRecipe
from nucleate.training.loop import Learner

Example = dict[str, Any]


class Examples(Dataset[Example]):
    """Views of windows; example i depends only on (seed, whether validation, i)."""

    def __init__(
        self, tiles: list[TissueTile], pretext: Pretext, seed: int, exam: bool = False
    ) -> None:
        self.tiles, self.seed, self.stream = tiles, seed, int(exam)
        self.views, self.window_px = pretext.exam if exam else pretext.views, pretext.window_px
        self.shares = shares_of(tiles)

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng((self.seed, self.stream, index))
        _, window = draw_window(self.tiles, self.shares, self.window_px, rng)
        return self.views(window, rng)


class Pretraining(Learner):
    """Lightning module of a pretext task.

    Attributes:
        pretext: the task, with its network.
        validation: batches of examples of held-out images, the same in every round.
    """

    score: ClassVar[str] = "val_score"

    def __init__(
        self, recipe: PretrainRecipe, pretext: Pretext, held_out: list[TissueTile]
    ) -> None:
        super().__init__(recipe.train, recipe.seed)
        self.pretext = pretext
        self.logged = {f"val_{name}": name for name in pretext.chance}
        examples = Examples(held_out, pretext, recipe.seed, exam=True)
        made = [examples[i] for i in range(recipe.examples)]
        size = recipe.train.batch
        self.validation = [made[i : i + size] for i in range(0, len(made), size)]
        self.scores: dict[str, list[float]] = {}

    def training_step(self, batch: Example, index: int) -> Tensor:
        """Return the loss of a batch."""
        losses, scores = self.pretext(batch)
        loss = torch.stack(list(losses.values())).sum()
        self.keep(loss, losses)
        self.add({f"train_{name}": part.detach() / whole for name, (part, whole) in scores.items()})
        return loss

    def validation_step(self, index: Tensor, batch_idx: int) -> None:
        """Score one batch of held-out examples."""
        examples = self.validation[int(index)]
        batch = self.transfer_batch_to_device(default_collate(examples), self.device, 0)
        losses, scores = self.pretext(batch)
        loss = torch.stack(list(losses.values())).sum()
        weighed = {"loss": (loss * len(examples), torch.tensor(float(len(examples))))}
        for name, pair in (weighed | scores).items():
            sums = self.scores.setdefault(f"val_{name}", [0.0, 0.0])
            for i, value in enumerate(pair):
                sums[i] += float(value)

    def round_row(self) -> dict[str, float]:
        """Return the means of the round, and reset them."""
        if not self.scores:
            return {}
        row = {name: value / self.config.validate_every for name, value in self.sums.items()}
        row |= {name: part / max(whole, 1e-12) for name, (part, whole) in self.scores.items()}
        self.sums, self.scores = {}, {}
        return row | {"val_score": row[f"val_{self.pretext.score}"]}

    def configure_optimizers(self) -> Any:  # noqa: ANN401
        """Return the optimiser and its schedule."""
        return self.optimiser(self.pretext)

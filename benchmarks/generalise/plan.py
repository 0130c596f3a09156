"""The ideas that the judge tries, in order: a plain table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.generalise.sets import SETS, set_config

from nucleate.config import Recipe, load_recipe
from nucleate.trees import parse_tree

ROOT = Path(__file__).parents[2]
BASE = ROOT / "recipes" / "generalise-small.yaml"
STEPS = 1500


@dataclass(frozen=True, slots=True)
class Idea:
    """One idea: a base recipe and what is changed.

    Attributes:
        name: of the file of results.
        hypothesis: why it may help.
        prediction: what should be seen if that is so.
        changes: `key=value` each, as `--set` takes them.
        seeds: each is a run of all five folds.
        balance: exponent of a set's area that states how often crops come from it; 1 is by area.
        workers: processes of each fold that make crops.
        left_out: sets that are left out in turn; a start from a bundled model leaves out those
            that the model has not seen.
    """

    name: str
    hypothesis: str
    prediction: str
    changes: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (1,)
    balance: float = 1.0
    workers: int = 0
    left_out: tuple[str, ...] = tuple(SETS)


SHIPPED = (  # augmentation of the model that is bundled, without anything new
    "augment.zoom=[0.75, 1.33]", "augment.stain=0.3", "augment.brightness=0.06",
    "augment.contrast=0.15", "augment.blur_px=1.2", "augment.blur_chance=0.2", "augment.noise=8",
    "augment.noise_chance=0.1", "augment.jpeg_quality=60", "augment.jpeg_chance=0.15",
    "augment.artefacts=0", "augment.normalise=0", "augment.lowres=0", "augment.zoom_small=0",
    "heads.foreground.edge_px=0",
)  # fmt: skip
COLOURS = (
    "augment.stain=0.5", "augment.contrast=0.25", "augment.brightness=0.1", "augment.blur_px=2.0",
    "augment.blur_chance=0.35", "augment.noise_chance=0.2", "augment.jpeg_quality=50",
    "augment.jpeg_chance=0.3",
)  # fmt: skip
DEEP = ("model.arguments.widths=[16, 48, 96, 192, 192]", "model.arguments.blocks=[1, 2, 2, 2, 2]")
BASE_MODEL = (  # that of recipes/mtl-base.yaml
    (
        "model.arguments={widths: [24, 48, 96, 192], stem: 2, blocks: 2, decoder_blocks: 1, "
        "dilations: [1], transformer_layers: 0, gates: false}"
    ),
)

MILD = (  # half of what recipes/generalise-small.yaml does
    "augment.zoom=[0.7, 1.45]", "augment.artefacts=0.15", "augment.normalise=0.25",
    "augment.lowres=0.1", "augment.zoom_small=0.1", "augment.brightness=0.08",
    "augment.blur_px=1.6", "heads.foreground.edge_px=0",
)  # fmt: skip
LONG = ("train.steps=2000", "train.batch=16")
UNSEEN = ("cryonuseg", "monusac", "consep")  # by mtl-base and by mtl-small-start
FURTHER = (
    *MILD, "init.from=runs/mtl-small-start", "train.lr=0.0007", "train.warmup_steps=50",
    "train.steps=1000",
)  # fmt: skip
TAUGHT = ("teacher.models=[runs/mtl-small-start, runs/mtl-base]", "teacher.within_px=8")

IDEAS = (
    Idea("plain", "what augmentation was shipped, on four sets; two seeds tell the noise",
         "the seeds differ by less than 0.01 in G", SHIPPED, seeds=(1, 2)),
    Idea("all", "everything below together, as recipes/generalise-small.yaml has it",
         "G rises by 0.02, F falls by half", seeds=(1, 2)),
    Idea("plain-long", "three times as many crops: steps counted for most in earlier trials",
         "G rises by 0.015", SHIPPED + LONG, workers=1),
    Idea("mild-long", "strong changes need steps: half of them, three times as many crops",
         "G is 0.01 above plain-long, F half of it", MILD + LONG, workers=1),
    Idea("further", "the bundled small model has a teacher and 6,000 steps behind it: two more "
         "sets, mild changes and artefacts on top cost a sixth of a new start",
         "G of the three unseen sets rises by 0.02 over the bundled model, F falls by half",
         FURTHER, workers=1, left_out=UNSEEN, seeds=(1, 2, 3)),
    Idea("further-taught", "what the bundled models draw of a rim carries over to other sets, what "
         "they find in keratin and ink must not: their maps count near true nuclei only",
         "G rises by 0.01 over `further`, most on MoNuSAC61; F stays",
         (*FURTHER, *TAUGHT), workers=1, left_out=UNSEEN),
    Idea("further-longer", "keratin and ink fall with every step that shows them: three times as "
         "many steps, artefacts in a quarter of the crops", "F falls by a third against `further`, "
         "G rises by 0.005", (*FURTHER, "augment.artefacts=0.25", "train.steps=3000"), workers=1,
         left_out=UNSEEN),
    Idea("coarser", "at 0.35 um/px the network has half the work, and sees twice the area",
         "G stays, F falls", (*FURTHER, "data.mpp=0.35"), workers=1, left_out=UNSEEN),
    Idea("artefacts", "ink, dust, folds and keratin are never seen in training", "F falls by half "
         "in ink, keratin and debris; G stays", (*SHIPPED, "augment.artefacts=0.25")),
    Idea("colours", "other laboratories stain and scan otherwise", "G rises, most on the sets that "
         "look least like the others (MoNuSAC61, CryoNuSeg)", (*SHIPPED, *COLOURS)),
    Idea("normalise", "stains of other images on the same tissue", "G rises on all sets",
         (*SHIPPED, "augment.normalise=0.4")),
    Idea("soft-edge", "annotators disagree about the outline by a pixel or two",
         "AJI of all sets rises by the rims: SQ rises, recall stays",
         (*SHIPPED, "heads.foreground.edge_px=2")),
    Idea("zoom", "nuclei of other tissues are larger or smaller", "G rises on CryoNuSeg and "
         "CoNSeP, and the area ratio nears 1", (*SHIPPED, "augment.zoom=[0.6, 1.6]")),
    Idea("steps-3000", "1,500 steps are too few for strong changes", "G rises by about 0.01",
         ("train.steps=3000",)),
    Idea("mtl-base", "twice the work at full resolution", "G rises by 0.01", BASE_MODEL),
    Idea("deep", "false nuclei need more context to be given", "F falls", DEEP),
    Idea("lowres", "some images are blurred or enlarged", "G rises on MoNuSeg's 20x images",
         (*SHIPPED, "augment.lowres=0.3")),
    Idea("zoom-small", "small nuclei are rare in training", "recall of small nuclei rises on "
         "MoNuSeg and CryoNuSeg", (*SHIPPED, "augment.zoom_small=0.2")),
    Idea("balance", "a large set crowds out the small ones", "G rises on sets that resemble TNBC "
         "and CryoNuSeg", SHIPPED, balance=0.5),
    Idea("wide", "1,500 steps do not need it, but four sets may", "G rises by less than 0.01",
         ("model.arguments.widths=[16, 64, 128, 256]",)),
    Idea("batch-16", "more variety per step", "G rises by about 0.01", ("train.batch=16",)),
    Idea("crop-384", "more context, fewer borders", "G rises on sets of large nuclei",
         ("train.crop_px=384",)),
)  # fmt: skip


def by_name(name: str) -> Idea:
    """Return an idea of the table."""
    found = next((idea for idea in IDEAS if idea.name == name), None)
    if found is None:
        known = ", ".join(idea.name for idea in IDEAS)
        raise SystemExit(f"there is no idea {name!r}. Take one of: {known}.")
    return found


def recipe_of(
    idea: Idea,
    left_out: str,
    seed: int,
    steps: int | None = None,
    areas: dict[str, float] | None = None,
) -> Recipe:
    """Return what a fold trains: the idea's recipe on four sets.

    Args:
        idea: of the table.
        left_out: set that is tested on.
        seed: of the idea; each fold draws from a separate seed.
        steps: instead of the idea's: for trials.
        areas: set -> pixels, for ideas that balance sets.

    Raises:
        ConfigError: the recipe does not know a key of the idea.
    """  # fmt: skip
    changed = load_recipe(BASE, [f"train.steps={STEPS}", f"train.validate_every={STEPS}",
                                 *_every(idea)])  # fmt: skip
    tree: dict[str, Any] = changed.model_dump(mode="json")
    names = [name for name in SETS if name != left_out]
    sets = [set_config(name).model_dump(mode="json") for name in names]
    if idea.balance != 1.0 and areas:
        for one, name in zip(sets, names, strict=True):
            one["weight"] = float(areas[name] ** (idea.balance - 1) / 1e-3)
    tree["data"] |= {"sets": sets, "split": None, "scheme": None}
    tree["name"] = f"{idea.name}-{left_out}-{seed}"
    tree["seed"] = 10 * seed + list(SETS).index(left_out)
    tree["train"] |= {"workers": idea.workers, "threads": 1}
    if steps is not None:
        tree["train"] |= {"steps": steps, "validate_every": steps}
    return parse_tree(Recipe, tree, f"the idea {idea.name!r}")


def _every(idea: Idea) -> list[str]:
    """Return the changes; a run has one round however long it is."""
    steps = [c.partition("=")[2] for c in idea.changes if c.startswith("train.steps=")]
    return [*idea.changes, *(f"train.validate_every={s}" for s in steps)]

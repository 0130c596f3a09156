"""The types that cross every border of the package: axes, dtypes and units are fixed here.

Images are uint8 RGB of shape (H, W, 3); labels are int32 of shape (H, W) with 0 as background;
coordinates are (x, y) pixels of level 0 of the file, with the origin at the outer corner of the
first pixel: the pixel in column c and row r has its centre at (c + 0.5, r + 0.5). A unit or an axis
that is not said here is in the name: `_xy _yx _xyxy _px _um mpp` (micrometres per pixel).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nucleate.errors import InputError, nearest, optional

UInt8 = NDArray[np.uint8]
Int8 = NDArray[np.int8]
Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
SAME_MPP = 0.05  # within 5 % nothing is resampled
Maps = dict[str, Float32]  # the network's output: head name -> (H, W); of a detector DETECTED
DETECTED = ("boxes", "scores", "masks")  # (n, 4), (n,), (n, m, m): the head `instances`
MIN_SCORE = 0.01  # of a detector's nuclei, where its recipe says nothing
INSTANCES = "instances"  # the head of detectors; all others are maps
_SHOWN = 2_000  # nuclei that a notebook draws
TYPE = "type_"  # the maps of the head `types`: type_1 is 1 on nuclei of the first class, and so on


@dataclass(frozen=True, slots=True)
class Drawn:
    """What became of outlines, or of layers, when they were drawn into one label image.

    Attributes:
        outlines: that the annotation holds.
        contested_px: pixels that more than one of them claimed; the data set's card says who got
            them.
        hidden: outlines without any pixel of their own.
    """

    outlines: int
    contested_px: int
    hidden: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One annotated (or not yet annotated) picture.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        labels: int32 (H, W), 0 background, 1..n nuclei; None without annotation.
        classes: int16 (n,), the class of nucleus i + 1; None without classes.
        class_names: what `classes` are positions in.
        ignore: bool (H, W), vague areas, left out of the loss and of the metrics; None for none.
        mpp: micrometres per pixel of `image`; None means unknown and is never guessed.
        name: unique in its data set.
        group: patient or slide; a split never cuts a group.
        organ: as the data set says.
        species: as the data set says.
        centre: hospital or laboratory, where the data set says.
        drawn: how outlines became labels; None where the annotation is a label image.

    Raises:
        InputError: a field has another dtype or shape than stated.
    """

    image: UInt8
    labels: Int32 | None
    name: str
    group: str
    mpp: float | None = None
    classes: Int16 | None = None
    class_names: tuple[str, ...] = ()
    ignore: Bool | None = None
    organ: str | None = None
    species: str | None = None
    centre: str | None = None
    drawn: Drawn | None = None

    def __post_init__(self) -> None:
        _check(self.name, "image", self.image, np.uint8, (None, None, 3))
        size = self.image.shape[:2]
        if self.labels is not None:
            _check(self.name, "labels", self.labels, np.int32, size)
        if self.ignore is not None:
            _check(self.name, "ignore", self.ignore, np.bool_, size)
        if self.classes is not None:
            _check(self.name, "classes", self.classes, np.int16, (None,))
            known = len(self.class_names)
            count = 0 if self.labels is None else int(self.labels.max(initial=0))
            if len(self.classes) != count or ((self.classes < 0) | (self.classes >= known)).any():
                raise InputError(
                    f"{self.name}: {len(self.classes)} classes for {count} nuclei, or one that is "
                    f"none of the {known} names. Get the annotation again."
                )


@dataclass(frozen=True, slots=True)
class Frame:
    """The pixel grid that coordinates live in: level 0 of one picture or slide.

    Attributes:
        width: pixels.
        height: pixels.
        mpp: micrometres per pixel, None if unknown.
        origin_xy: position of this grid's corner in the file's level 0, in pixels.
    """

    width: int
    height: int
    mpp: float | None = None
    origin_xy: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Instances:
    """A table of n nuclei; n = 0 is legal. All fields have length n, outlines are ragged.

    Attributes:
        ids: int64 (n,), the values of a label image; positive and unique.
        coords_xy: float32 (m, 2), the vertices of all outlines one after the other.
        offsets: int64 (n + 1,); outline i is `coords_xy[offsets[i]:offsets[i + 1]]`, not closed.
        boxes_xyxy: float32 (n, 4), half-open.
        scores: float32 (n,), 0 to 1.
        classes: int16 (n,), indices into `class_names`.
        frame: the pixel grid of the coordinates.
        features: column name -> array of length n.
        class_names: of the classes; one name only where the model knows no types.

    Raises:
        InputError: lengths or dtypes do not fit together.

    Example:
        >>> Instances.empty(Frame(10, 10)).ids.size
        0
    """

    ids: Int64
    coords_xy: Float32
    offsets: Int64
    boxes_xyxy: Float32
    scores: Float32
    classes: Int16
    frame: Frame
    features: dict[str, NDArray[Any]] = field(default_factory=dict)
    class_names: tuple[str, ...] = ("nucleus",)

    def __post_init__(self) -> None:
        n = self.ids.shape[0]
        _check("Instances", "ids", self.ids, np.int64, (n,))
        _check("Instances", "coords_xy", self.coords_xy, np.float32, (None, 2))
        _check("Instances", "offsets", self.offsets, np.int64, (n + 1,))
        _check("Instances", "boxes_xyxy", self.boxes_xyxy, np.float32, (n, 4))
        _check("Instances", "scores", self.scores, np.float32, (n,))
        _check("Instances", "classes", self.classes, np.int16, (n,))
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.coords_xy):
            raise InputError("Instances: offsets must run from 0 to the number of vertices.")
        for name, column in self.features.items():
            if len(column) != n:
                raise InputError(f"Instances: feature {name!r} has {len(column)} rows, not {n}.")

    def __len__(self) -> int:
        return int(self.ids.shape[0])

    def __repr__(self) -> str:
        frame = self.frame
        unit = "" if frame.mpp is None else f", {frame.mpp:g} um/px"
        return (
            f"Instances({len(self)} nuclei on {frame.width} × {frame.height} pixels{unit}; "
            f"features: {', '.join(self.features) or 'none'})"
        )

    @classmethod
    def empty(cls, frame: Frame) -> Instances:
        """Return the table of no nuclei in `frame`."""
        return cls(
            ids=np.zeros(0, np.int64),
            coords_xy=np.zeros((0, 2), np.float32),
            offsets=np.zeros(1, np.int64),
            boxes_xyxy=np.zeros((0, 4), np.float32),
            scores=np.zeros(0, np.float32),
            classes=np.zeros(0, np.int16),
            frame=frame,
        )

    def outline(self, row: int) -> Float32:
        """Return the outline of nucleus `row`: float32 (k, 2), (x, y), not closed."""
        return self.coords_xy[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: NDArray[Any]) -> Instances:
        """Return the nuclei of `rows` (indices or a mask), in that order."""
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.int64)
        starts, counts = self.offsets[index], np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        vertices = np.repeat(starts - offsets[:-1], counts) + np.arange(offsets[-1])
        return Instances(
            ids=self.ids[index],
            coords_xy=self.coords_xy[vertices],
            offsets=offsets,
            boxes_xyxy=self.boxes_xyxy[index],
            scores=self.scores[index],
            classes=self.classes[index],
            frame=self.frame,
            features={name: column[index] for name, column in self.features.items()},
            class_names=self.class_names,
        )

    @staticmethod
    def concatenate(parts: list[Instances], frame: Frame) -> Instances:
        """Return all nuclei of `parts` in one table of `frame`, with ids 1..n.

        Parts without nuclei need no features; without any nucleus the columns are those of the
        first part.
        """
        parts = [part for part in parts if len(part)] or parts[:1]
        if not parts:
            return Instances.empty(frame)
        counts = np.concatenate([np.diff(part.offsets) for part in parts])
        return Instances(
            ids=np.arange(1, len(counts) + 1, dtype=np.int64),
            coords_xy=np.concatenate([part.coords_xy for part in parts]),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            boxes_xyxy=np.concatenate([part.boxes_xyxy for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
            classes=np.concatenate([part.classes for part in parts]),
            frame=frame,
            features={
                name: np.concatenate([part.features[name] for part in parts])
                for name in parts[0].features
            },
            class_names=parts[0].class_names,
        )

    def plot(self, image: UInt8 | None = None, column: str | None = None, axes: Any = None) -> Any:  # noqa: ANN401
        """Draw all outlines with matplotlib (extra `data`).

        Args:
            image: uint8 (H, W, 3) of the size of `frame`, drawn below; None leaves it blank.
            column: feature, or `score`, that outlines are coloured by; None gives all one colour.
            axes: of matplotlib; None makes a new figure.

        Returns:
            The axes.

        Raises:
            InputError: there is no such feature.
            NucleateError: matplotlib is not installed.

        Example:
            >>> Instances.empty(Frame(10, 10)).plot().get_xlim()
            (np.float64(0.0), np.float64(10.0))
        """
        plt = optional("matplotlib.pyplot", "data")
        collections = optional("matplotlib.collections", "data")
        values = {"score": self.scores, **self.features}
        if column is not None and column not in values:
            raise InputError(f"There is no feature {column!r}. {nearest(column, list(values))}")
        if axes is None:
            axes = plt.subplots(layout="constrained")[1]
        if image is not None:
            axes.imshow(image, extent=(0, self.frame.width, self.frame.height, 0))
        rings = np.split(self.coords_xy, self.offsets[1:-1]) if len(self) else []
        colour = {"edgecolors": "#00a080"} if column is None else {}  # none: that of the column
        drawn = collections.PolyCollection(rings, facecolors="none", linewidths=1.0, **colour)
        if column is not None:
            drawn.set(array=np.asarray(values[column], np.float64), cmap="cividis")
            axes.figure.colorbar(drawn, ax=axes, label=column.replace("_", " "))
        axes.add_collection(drawn)
        axes.set(xlim=(0, self.frame.width), ylim=(self.frame.height, 0), aspect="equal")
        return axes

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the outlines, and a table of the features."""
        shown = self.take(np.arange(0, len(self), max(1, -(-len(self) // _SHOWN))))
        rings = np.split(shown.coords_xy, shown.offsets[1:-1]) if len(shown) else []
        path = " ".join("M" + " ".join(f"{x:.1f},{y:.1f}" for x, y in r) + "Z" for r in rings)
        frame, some = (
            self.frame,
            f" ({len(shown):,} of them drawn)" if len(shown) < len(self) else "",
        )
        unit = "resolution unknown" if frame.mpp is None else f"{frame.mpp:g} µm per pixel"
        rows = "".join(
            f"<tr><td style='text-align:left'>{escape(name)}</td>"
            + "".join(f"<td>{q:.4g}</td>" for q in _quartiles(values))
            + "</tr>"
            for name, values in {**self.features, "score": self.scores}.items()
        )
        return (
            f"<p><b>{len(self):,} nuclei</b>{some} on {frame.width:,} × {frame.height:,} pixels, "
            f"{unit}</p><svg width='360' viewBox='0 0 {frame.width} {frame.height}' "
            f"style='max-height:360px;border:1px solid #aaa'><path d='{path}' fill='none' "
            f"stroke='#00a080' stroke-width='1.5' vector-effect='non-scaling-stroke'/></svg>"
            "<details><summary>features</summary><table><tr><th></th><th>25 %</th><th>median</th>"
            f"<th>75 %</th></tr>{rows}</table></details>"
        )


def _quartiles(values: NDArray[Any]) -> list[float]:
    """Return the quartiles of what is finite; NaN where nothing is."""
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    return np.quantile(known, (0.25, 0.5, 0.75)).tolist() if len(known) else [np.nan] * 3


@dataclass(frozen=True, slots=True)
class Layer:
    """Decoded nuclei that do not overlap; those that do lie in different layers.

    Attributes:
        labels: int32 (H, W), 0 background, 1..n without gaps, each nucleus one 4-connected piece.
        scores: float32 (n,), 0 to 1.
        classes: int16 (n,).
    """

    labels: Int32
    scores: Float32
    classes: Int16


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Everything that must be known to run a model, to trust it and to cite it.

    Attributes:
        name: short name of the model.
        version: of the weights.
        family: key of `nucleate.models.MODELS`.
        arguments: keyword arguments that build the network of `family`.
        heads: names of the output maps, keys of `nucleate.targets.HEADS`.
        decoder: key of `nucleate.postprocess.DECODERS`.
        thresholds: the decoder's parameters, tuned on validation data.
        mpp: micrometres per pixel that the network works at.
        align_px: tile origins and sizes are multiples of this.
        halo_px: context that a tile reads around its core.
        classes: names of the nucleus classes, in order of their number.
        training_data: one entry per data set: name, images, nuclei, licence, citation; and one
            with the groups (patients) and fingerprints of the images trained and chosen on.
        licence: of the weights (SPDX expression), as the training data allow.
        metrics: results on the validation images.
        files: file name -> SHA-256.
        package_version: of nucleate, when the card was written.
        recipe: the resolved recipe of the run.
        notes: what a user has to know.
        stain: the fitted stain normaliser that pictures pass first, None for none.
    """

    name: str
    version: str
    family: str
    arguments: dict[str, Any]
    heads: list[str]
    decoder: str
    thresholds: dict[str, float]
    mpp: float
    align_px: int
    halo_px: int
    classes: list[str]
    training_data: list[dict[str, Any]]
    licence: str
    metrics: dict[str, Any]
    files: dict[str, str]
    package_version: str
    recipe: dict[str, Any]
    notes: str = ""
    stain: dict[str, Any] | None = None

    @classmethod
    def field_names(cls) -> list[str]:
        """Return the names of all fields, the keys of the card's JSON."""
        return [entry.name for entry in fields(cls)]


@dataclass(frozen=True, slots=True)
class EncoderCard:
    """Everything that must be known to start a training from a pretrained encoder, and to cite it.

    Attributes:
        name: of the pretraining.
        version: of the weights.
        family: key of `nucleate.models.MODELS`.
        arguments: keyword arguments that build the network whose encoder this is.
        task: key of `nucleate.pretrain.PRETEXTS`.
        mpp: micrometres per pixel that it was trained at.
        training_data: one entry per data set or folder: name, images, licence, citation; and one
            with the groups (patients) and the fingerprints of the images that were looked at,
            without labels.
        licence: of the weights (SPDX expression), as the pictures allow.
        metrics: how well the task is solved on held-out pictures, and what guessing gives.
        files: file name -> SHA-256.
        package_version: of nucleate, when the card was written.
        recipe: the resolved recipe of the run.
        notes: what the weights were before the first step.
    """

    name: str
    version: str
    family: str
    arguments: dict[str, Any]
    task: str
    mpp: float
    training_data: list[dict[str, Any]]
    licence: str
    metrics: dict[str, Any]
    files: dict[str, str]
    package_version: str
    recipe: dict[str, Any]
    notes: str = ""


def detects(heads: list[str]) -> bool:
    """Return whether a network with these heads gives boxes, scores and masks instead of maps.

    Example:
        >>> detects(["foreground"]), detects(["instances"])
        (False, True)
    """
    return heads == [INSTANCES]


def output_names(heads: list[str]) -> list[str]:
    """Return the names of what a network with these heads gives.

    Example:
        >>> output_names(["foreground"]), output_names(["instances"])
        (['foreground'], ['boxes', 'scores', 'masks'])
    """
    return list(DETECTED) if detects(heads) else heads


def check_mpp(mpp: object) -> float:
    """Return micrometres per pixel as a float, or raise when no microscope can have them.

    Raises:
        InputError: not a number from 0.02 to 20.

    Example:
        >>> check_mpp(0.25)
        0.25
    """
    if isinstance(mpp, bool) or not isinstance(mpp, int | float) or not 0.02 <= mpp <= 20:
        raise InputError(
            f"mpp = {mpp}: a microscope has 0.02 to 20 um/px. Give that of the scan: 0.25 for 40x, "
            "0.5 for 20x."
        )
    return float(mpp)


def resolve_mpp(
    name: str, stated: float | None, given: float | None, override: bool = False
) -> float | None:
    """Return the resolution that counts: what the file states, else what is given.

    Args:
        name: of the file, for errors.
        stated: micrometres per pixel as the file has it; None, or what no microscope has, if it
            states none.
        given: as the caller has it; None takes what is stated.
        override: whether `given` counts against a file that states another value.

    Raises:
        InputError: both are there and differ by more than 5 %, or `given` is out of range.

    Example:
        >>> resolve_mpp("a", None, 0.25), resolve_mpp("a", 0.252, 0.25)
        (0.25, 0.252)
        >>> resolve_mpp("a", 0.5, 0.25, override=True)
        0.25
    """
    if given is None:
        return stated
    given = check_mpp(given)
    if stated is None or not 0.02 <= stated <= 20 or override:
        return given
    if abs(given / stated - 1) <= SAME_MPP:
        return stated
    raise InputError(
        f"{name}: the file states {stated:.4g} um/px, but mpp is given as {given:.4g}. Omit mpp to "
        "use the value of the file, or override it: --override-mpp on the command line, "
        "override_mpp=True in Python, the option override_mpp of a data set."
    )


def grid_ratio(mpp: object, target: float) -> float:
    """Return pixels of a grid of `target` um/px per pixel of a grid of `mpp`; 1 within 5 %.

    Raises:
        InputError: no microscope has this mpp.

    Example:
        >>> grid_ratio(0.5, 0.25), grid_ratio(0.252, 0.25)
        (2.0, 1.0)
    """
    ratio = check_mpp(mpp) / target
    return 1.0 if abs(ratio - 1) <= SAME_MPP else ratio


def _check(
    owner: str, what: str, array: NDArray[Any], dtype: type, shape: tuple[int | None, ...]
) -> None:
    """Raise an `InputError` unless `array` has this dtype and shape (None: any length)."""
    fits = array.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        wanted = "×".join("any" if n is None else str(n) for n in shape)
        raise InputError(
            f"{owner}: {what} must be {np.dtype(dtype).name} of shape {wanted}, but it is "
            f"{array.dtype} of shape {'×'.join(map(str, array.shape))}. Convert it first."
        )

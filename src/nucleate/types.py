"""The types shared by the whole package; they fix axes, dtypes and units."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from nucleate.drawing_report import DrawingReport
from nucleate.errors import InputError, nearest

UInt8 = NDArray[np.uint8]
Int8 = NDArray[np.int8]
Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
Maps = dict[str, Float32]  # the network's output: head name -> (H, W), or what its decoder takes


@dataclass(frozen=True, slots=True)
class Sample:
    """An image, with or without annotation.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        labels: int32 (H, W), 0 background, 1..n nuclei; None without annotation.
        classes: int16 (n,), the class of nucleus i + 1; None without classes.
        class_names: names of the classes that `classes` indexes.
        ignore: bool (H, W), vague areas, excluded from loss and metrics; None for none.
        mpp: micrometres per pixel of `image`; None means unknown and is never guessed.
        name: unique in its data set.
        group: patient or slide; a split never divides a group.
        organ: organ, if the data set states it.
        species: species, if the data set states it.
        centre: hospital or laboratory, if the data set states it.
        drawn: report on drawing outlines into labels; None if the annotation is a label image.
        weight: how often training draws crops from it, relative to its area.

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
    drawn: DrawingReport | None = None
    weight: float = 1.0

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
                    f"{self.name}: {len(self.classes)} classes for {count} nuclei, or a class "
                    f"beyond the {known} names. Export the annotation again."
                )


@dataclass(frozen=True, slots=True)
class Frame:
    """The pixel grid of coordinates: level 0 of one image or slide.

    Attributes:
        width: pixels.
        height: pixels.
        mpp: micrometres per pixel, None if unknown.
        origin_xy: top left corner of this grid in level 0 of the file, in pixels.
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
        class_names: names of the classes; a single name if the model has no types.

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
        _check("Instances", "ids", self.ids, np.int64, (None,))
        n = len(self.ids)
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
        """Return an empty table for `frame`."""
        return cls(
            ids=np.zeros(0, np.int64),
            coords_xy=np.zeros((0, 2), np.float32),
            offsets=np.zeros(1, np.int64),
            boxes_xyxy=np.zeros((0, 4), np.float32),
            scores=np.zeros(0, np.float32),
            classes=np.zeros(0, np.int16),
            frame=frame,
        )

    @overload
    def __getitem__(self, key: str) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, key: NDArray[Any] | slice | int | list[int]) -> Instances: ...
    def __getitem__(
        self, key: str | NDArray[Any] | slice | int | list[int]
    ) -> NDArray[Any] | Instances:
        """Return a column by name, or select nuclei by a mask, indices or a slice.

        Raises:
            InputError: there is no such column.

        Example:
            >>> nuclei = Instances.empty(Frame(10, 10))
            >>> len(nuclei[nuclei["score"] > 0.5])
            0
        """
        if not isinstance(key, str):
            index = np.arange(len(self))[key]
            return self.take(np.atleast_1d(index))
        columns: dict[str, NDArray[Any]] = {
            "id": self.ids,
            "score": self.scores,
            "class": self.classes,
            **self.features,
        }
        if key in ("x", "y"):
            from nucleate.geometry.outlines import centroids_xy

            return centroids_xy(self.coords_xy, self.offsets)[:, "xy".index(key)]
        if key not in columns:
            raise InputError(f"There is no column {key!r}. {nearest(key, [*columns, 'x', 'y'])}")
        return columns[key]

    def to_labels(self) -> Int32:
        """Draw the label image of `frame`: int32 (H, W), 0 background, ids elsewhere.

        Example:
            >>> Instances.empty(Frame(3, 2)).to_labels().tolist()
            [[0, 0, 0], [0, 0, 0]]
        """
        from nucleate.geometry.outlines import paint

        return paint(self, (self.frame.height, self.frame.width))

    def to_dataframe(self) -> Any:  # noqa: ANN401
        """Convert to a pandas DataFrame, one row per nucleus (extra `export`)."""
        from nucleate.results.save import to_dataframe

        return to_dataframe(self)

    def to_geopandas(self) -> Any:  # noqa: ANN401
        """Convert to a GeoDataFrame with outlines as polygons (extra `export`)."""
        from nucleate.results.save import to_geopandas

        return to_geopandas(self)

    def to_anndata(self) -> Any:  # noqa: ANN401
        """Convert to an AnnData with features and centroids (extra `export`)."""
        from nucleate.results.save import to_anndata

        return to_anndata(self)

    def to_spatialdata(self) -> Any:  # noqa: ANN401
        """Convert to a SpatialData with outlines and features (extra `export`)."""
        from nucleate.results.save import to_spatialdata

        return to_spatialdata(self)

    def save(self, path: str | Path, image: Any = None) -> None:  # noqa: ANN401
        """Write the nuclei to a file; the ending gives the format.

        Args:
            path: with ending .parquet, .csv, .geojson, .geojson.gz, .tif (label image), .ome.zarr,
                .spatialdata.zarr, .annotations.db, or .png and .jpg (outlines on `image`).
            image: (H, W, 3), required by .png and .jpg.

        Raises:
            InputError: unknown ending; overlay without an image, or with one of another size.
            OutputError: the file cannot be written.
        """
        from nucleate.results.save import save

        save(self, path, image)

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
        """Concatenate `parts` into one table of `frame`, with ids 1..n.

        Parts without nuclei need no features; if all are empty, the columns are those of the first
        part.
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

    def plot(self, image: Any = None, column: str | None = None, axes: Any = None) -> Any:  # noqa: ANN401
        """Draw all outlines with matplotlib (extra `data`).

        Args:
            image: image of the size of `frame`, as `segment` takes it in memory; None draws none.
            column: feature, or `score`, that colours the outlines; None gives all one colour.
            axes: matplotlib axes; None makes a new figure.

        Returns:
            The axes.

        Raises:
            InputError: no such feature; an image of another size; or the image is empty.
            NucleateError: matplotlib is not installed.

        Example:
            >>> Instances.empty(Frame(10, 10)).plot().get_xlim()
            (np.float64(0.0), np.float64(10.0))
        """
        from nucleate.results.figures import plot

        return plot(self, image, column, axes)

    def _repr_html_(self) -> str:
        """Return the HTML shown in a notebook: the outlines, and a table of the features."""
        from nucleate.results.figures import as_html

        return as_html(self)


def _check(
    owner: str, what: str, array: NDArray[Any], dtype: type, shape: tuple[int | None, ...]
) -> None:
    """Raise an `InputError` unless `array` has this dtype and shape (None: any length)."""
    if not isinstance(array, np.ndarray):
        raise InputError(
            f"{owner}: {what} must be an array, not {type(array).__name__}. Convert it first."
        )
    fits = array.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        wanted = "×".join("any" if n is None else str(n) for n in shape)
        raise InputError(
            f"{owner}: {what} must be {np.dtype(dtype).name} of shape {wanted}, but it is "
            f"{array.dtype} of shape {'×'.join(map(str, array.shape))}. Convert it first."
        )

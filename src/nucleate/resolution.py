"""Micrometres per pixel: what is plausible, which of two statements counts, what to say without."""

from __future__ import annotations

import contextlib
from numbers import Real

from nucleate.errors import InputError

LOWEST_MPP, HIGHEST_MPP = 0.02, 20.0  # of a microscope
SAME_MPP = 0.05  # within 5 % nothing is resampled
HOW_TO_STATE_MPP = "Pass mpp=…, or --mpp on the command line"
_VALUES = "0.25 for a 40x scan, 0.5 for 20x"


def is_plausible(mpp: object) -> bool:
    """Return whether a microscope can have a number of micrometres per pixel.

    Example:
        >>> is_plausible(0.25), is_plausible(25400 / 72), is_plausible("0.25"), is_plausible(True)
        (True, False, False, False)
    """
    number = isinstance(mpp, Real) and not isinstance(mpp, bool)
    return number and LOWEST_MPP <= float(mpp) <= HIGHEST_MPP  # type: ignore[arg-type]


def plausible_mpp(value: object) -> float | None:
    """Return what a file states as micrometres per pixel; None if no microscope can have it.

    Printers' and screens' resolutions (72 or 300 dots per inch) are 85 to 353 um and fall out.

    Example:
        >>> plausible_mpp("0.499"), plausible_mpp(25400 / 72)
        (0.499, None)
    """
    with contextlib.suppress(TypeError, ValueError):
        mpp = float(value)  # type: ignore[arg-type]
        if is_plausible(mpp):
            return mpp
    return None


def check_mpp(mpp: object) -> float:
    """Return micrometres per pixel as a float, or raise when no microscope can have them.

    Raises:
        InputError: not a number from `LOWEST_MPP` to `HIGHEST_MPP`.

    Example:
        >>> check_mpp(0.25)
        0.25
    """
    if not is_plausible(mpp):
        raise InputError(
            f"mpp = {mpp!r}: a microscope has {LOWEST_MPP:g} to {HIGHEST_MPP:g} um/px. Give the "
            f"number of the scan: {_VALUES}."
        )
    return float(mpp)  # type: ignore[arg-type]


def no_mpp(
    name: object, why: str = "", remedy: str = HOW_TO_STATE_MPP, owner: str = "the file"
) -> InputError:
    """Return the error of a file whose resolution is needed and unknown.

    Args:
        name: of the file.
        why: what else to state of it.
        remedy: where to state the resolution instead.
        owner: what it is that carries none.

    Example:
        >>> str(no_mpp("a.png", remedy="Pass mpp=…"))
        'a.png: the file carries no resolution (mpp). Pass mpp=…: 0.25 for a 40x scan, 0.5 for 20x.'
    """
    return InputError(f"{name}: {owner} carries no resolution (mpp){why}. {remedy}: {_VALUES}.")


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
    if stated is None or not is_plausible(stated) or override:
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

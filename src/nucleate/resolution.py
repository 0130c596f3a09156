"""Micrometres per pixel: plausible range, which of two values applies, the error if unknown."""

from __future__ import annotations

import contextlib
from numbers import Real

from nucleate.errors import InputError

LOWEST_MPP, HIGHEST_MPP = 0.02, 20.0  # range of microscopes
SAME_MPP = 0.05  # images within 5 % are not resampled
HOW_TO_STATE_MPP = "Add --mpp (in Python mpp=…)"
_VALUES = "0.25 for a 40x scan, 0.5 for 20x"


def is_plausible(mpp: object) -> bool:
    """Return whether an mpp value is plausible for a microscope.

    Example:
        >>> is_plausible(0.25), is_plausible(25400 / 72), is_plausible("0.25"), is_plausible(True)
        (True, False, False, False)
    """
    number = isinstance(mpp, Real) and not isinstance(mpp, bool)
    return number and LOWEST_MPP <= float(mpp) <= HIGHEST_MPP  # type: ignore[arg-type]


def plausible_mpp(value: object) -> float | None:
    """Return the mpp stated by a file, or None if it is not plausible for a microscope.

    This excludes printer and screen resolutions: 72 to 300 dots per inch are 353 to 85 um/px.

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
    """Return mpp as a float, or raise if it is not plausible for a microscope.

    Raises:
        InputError: not a number from `LOWEST_MPP` to `HIGHEST_MPP`.

    Example:
        >>> check_mpp(0.25)
        0.25
    """
    if not is_plausible(mpp):
        raise InputError(
            f"mpp = {mpp!r} is not a number in the range of microscopes, {LOWEST_MPP:g} to "
            f"{HIGHEST_MPP:g} um/px. Use the resolution of the scan: {_VALUES}."
        )
    return float(mpp)  # type: ignore[arg-type]


def no_mpp(
    name: object, why: str = "", remedy: str = HOW_TO_STATE_MPP, owner: str = "the file"
) -> InputError:
    """Build the error for a file whose resolution is needed but unknown.

    Args:
        name: file name.
        why: text to append to the cause.
        remedy: how to state the resolution.
        owner: subject that lacks the resolution.

    Example:
        >>> str(no_mpp("a.png", remedy="Pass mpp=…"))
        'a.png: the file carries no resolution (mpp). Pass mpp=…: 0.25 for a 40x scan, 0.5 for 20x.'
    """
    return InputError(f"{name}: {owner} carries no resolution (mpp){why}. {remedy}: {_VALUES}.")


def resolve_mpp(
    name: str, stated: float | None, given: float | None, override: bool = False
) -> float | None:
    """Return the resolution that applies: the one the file states, else the given one.

    Args:
        name: file name, for errors.
        stated: micrometres per pixel from the file; None or an implausible value if it states none.
        given: micrometres per pixel from the caller; None uses `stated`.
        override: let `given` replace a different value in the file.

    Raises:
        InputError: the two differ by more than 5 %, or `given` is out of range.

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
        InputError: `mpp` is not plausible for a microscope.

    Example:
        >>> grid_ratio(0.5, 0.25), grid_ratio(0.252, 0.25)
        (2.0, 1.0)
    """
    ratio = check_mpp(mpp) / target
    return 1.0 if abs(ratio - 1) <= SAME_MPP else ratio

"""Micrometres per pixel: what is plausible, and which of two statements counts."""

from __future__ import annotations

from numbers import Real

from nucleate.errors import InputError

SAME_MPP = 0.05  # within 5 % nothing is resampled


def check_mpp(mpp: object) -> float:
    """Return micrometres per pixel as a float, or raise when no microscope can have them.

    Raises:
        InputError: not a number from 0.02 to 20.

    Example:
        >>> check_mpp(0.25)
        0.25
    """
    if isinstance(mpp, bool) or not isinstance(mpp, Real) or not 0.02 <= float(mpp) <= 20:
        raise InputError(
            f"mpp = {mpp!r}: a microscope has 0.02 to 20 um/px. Give the number of the scan: 0.25 "
            "for 40x, 0.5 for 20x."
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

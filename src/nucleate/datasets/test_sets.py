"""Images published for testing only, which must not be used for training or selection."""

from __future__ import annotations

_TEST = (
    "2Z-A9J9 44-2665 69-7764 A6-6782 AC-A2FO AO-A0J2 CU-A0YN EJ-A46H FG-A4MU GL-6846 HC-7209 "
    "HT-8564 IZ-8196 ZF-A9R5"
)
TEST_PATIENTS = frozenset(f"TCGA-{patient}" for patient in _TEST.split())


def is_official_test(name: str) -> bool:
    """Return whether an image's name contains the barcode of an official test patient.

    Example:
        >>> is_official_test("0:TCGA-2Z-A9J9-01A-01-TS1")
        True
    """
    return any(patient in name.upper() for patient in TEST_PATIENTS)

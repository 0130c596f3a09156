"""Start workers as Slurm jobs with dask-jobqueue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from nucleate.errors import ConfigError, optional
from nucleate.files import read_text
from nucleate.yaml_text import load_yaml


def read_profile(path: Path) -> dict[str, Any]:
    """Read a Slurm profile: `jobs` and the keyword arguments of dask-jobqueue's SLURMCluster.

    Raises:
        InputError: the file cannot be read.
        ConfigError: it is not a mapping, or lacks `jobs`, `cores` or `memory`.
    """
    try:
        found = load_yaml(read_text(path), yaml.SafeLoader, path)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{path}: is not valid YAML ({str(error).splitlines()[0]}). Correct the file."
        ) from error
    known = found if isinstance(found, dict) else {}
    lacking = [key for key in ("jobs", "cores", "memory") if key not in known]
    if lacking:
        raise ConfigError(f"{path}: lacks {lacking[0]!r}. Add jobs, cores and memory.")
    jobs = known["jobs"]
    if not isinstance(jobs, int) or isinstance(jobs, bool) or not 1 <= jobs <= 10_000:
        raise ConfigError(f"{path}: jobs = {jobs!r}: must be a number from 1 to 10000.")
    return dict(known)


def start_slurm(profile: dict[str, Any], start: bool = True) -> Any:  # noqa: ANN401
    """Create a cluster whose workers are Slurm jobs.

    Args:
        profile: from `read_profile`.
        start: whether to submit jobs; if not, `job_script()` can be inspected.

    Raises:
        ConfigError: dask-jobqueue does not support a key.
    """
    jobqueue: Any = optional("dask_jobqueue", "cluster")
    wanted = {"processes": 1, **profile}
    jobs = wanted.pop("jobs")
    try:
        cluster = jobqueue.SLURMCluster(**wanted)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The Slurm profile is invalid ({error}). Correct it.") from error
    if start:
        cluster.scale(jobs=jobs)
    return cluster

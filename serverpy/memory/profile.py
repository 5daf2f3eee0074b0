"""The size profiles of ServerPY (small, medium, large), and the choice of a profile for this machine. The settings that
the operator has not set get their values from the profile; `serverpy doctor` shows the profile. The functions read
/proc and /sys below the directory `root`, so that a test can simulate any machine. The module imports no other module
of ServerPY.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from serverpy.errors import ConfigurationError

ProfileName: TypeAlias = Literal["small", "medium", "large"]

MIB = 1024 * 1024
GIB = 1024 * MIB

# Memory from which the medium and the large profile apply: 3.5 and 7.5 GiB, because a machine sold with 4 or 8 GB
# reports less than 4 or 8 GiB.
MEDIUM_BYTES = GIB * 7 // 2
LARGE_BYTES = GIB * 15 // 2
MEDIUM_CORES = 2
LARGE_CORES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A size profile: the settings that depend on the size of the machine. `memory_budget` is in bytes."""

    name: ProfileName
    max_workers: int
    queue_chunks: int
    max_streams: int
    memory_budget: int


SMALL = Profile(name="small", max_workers=5, queue_chunks=10, max_streams=200, memory_budget=64 * MIB)
MEDIUM = Profile(name="medium", max_workers=20, queue_chunks=20, max_streams=1_000, memory_budget=256 * MIB)
LARGE = Profile(name="large", max_workers=50, queue_chunks=20, max_streams=4_000, memory_budget=GIB)
PROFILES: dict[str, Profile] = {profile.name: profile for profile in (SMALL, MEDIUM, LARGE)}


def choose(memory_bytes: int, cores: float) -> Profile:
    """Return the largest profile for which both the memory and the cores suffice."""
    by_memory = _rank(memory_bytes, MEDIUM_BYTES, LARGE_BYTES)
    by_cores = _rank(cores, MEDIUM_CORES, LARGE_CORES)
    return (SMALL, MEDIUM, LARGE)[min(by_memory, by_cores)]


def resolve(name: str, root: Path = Path("/")) -> Profile:
    """Return the profile `name`; `auto` means the profile that fits this machine. Raises `KeyError` if no profile has
    that name, `ConfigurationError` if the size of the memory cannot be read."""
    if name == "auto":
        return choose(machine_memory(root), machine_cores(root))
    return PROFILES[name]


def machine_memory(root: Path = Path("/")) -> int:
    """Return the number of bytes of memory that this process may use: the smallest memory limit of its cgroups, or the
    machine's memory if that is smaller."""
    total = _meminfo_total(root)
    return min([total, *_memory_limits(root)])


def machine_cores(root: Path = Path("/"), affinity: int | None = None) -> float:
    """Return the number of cores that this process may use: the number of cores in its CPU affinity, or the smallest
    CPU quota of its cgroups if that is smaller. `affinity` replaces the CPU affinity."""
    cores = affinity if affinity is not None else len(os.sched_getaffinity(0))
    return min([float(cores), *_cpu_quotas(root)])


def _rank(value: float, medium: float, large: float) -> int:
    return (value >= medium) + (value >= large)


def _meminfo_total(root: Path) -> int:
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal":
            return int(rest.split()[0]) * 1024
    raise ConfigurationError("cannot read the size of the memory from /proc/meminfo: mount /proc")


def _memory_limits(root: Path) -> Iterator[int]:
    for folder in _cgroup_folders(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name)
            # Without a limit, cgroup version 2 states "max", and version 1 a number near 2**63, which is above any
            # MemTotal.
            if text.isdigit():
                yield int(text)


def _cpu_quotas(root: Path) -> Iterator[float]:
    for folder in _cgroup_folders(root, "cpu"):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        # the files of cgroup version 1, where a quota of -1 means no quota
        quota = quota or _read(folder / "cpu.cfs_quota_us")
        period = period or _read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period) > 0 and int(quota) > 0:
            yield int(quota) / int(period)


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's cgroups, and all their parent folders: those of cgroup version 2, and those
    of `controller` in cgroup version 1.

    A parent's limit also applies to its children. Inside a container the path in /proc/self/cgroup may not exist below
    the mount, because it is a path of the host. The last parent folder is the mount itself, which shows the limit of
    the container.
    """
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        fields = line.split(":", 2)
        if len(fields) != 3:
            continue
        number, controllers, path = fields
        if number == "0" and not controllers:
            yield from _upwards(mount, path)
        elif controller in controllers.split(","):
            yield from _upwards(mount / controllers, path)
            yield from _upwards(mount / controller, path)


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for length in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:length])


def _read(path: Path) -> str:
    """Return the file's text, or an empty string if it cannot be read: the caller then assumes that no limit
    applies."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def describe(memory_bytes: int, cores: float) -> str:
    """Describe the machine in words, for example `3.8 GiB, 2 cores`."""
    shown = math.floor(cores * 10) / 10
    return f"{memory_bytes / GIB:.1f} GiB, {shown:g} core{'' if shown == 1 else 's'}"

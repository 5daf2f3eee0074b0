"""Tests of how the machine's memory and cores are read from the kernel's files, and how these values determine the
profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from serverpy.errors import ConfigurationError
from serverpy.memory import profile
from serverpy.memory.profile import GIB, LARGE, MEDIUM, MIB, SMALL


def machine(root: Path, files: dict[str, str], total: int = 16 * GIB) -> Path:
    for name, text in {"proc/meminfo": f"MemFree: 5 kB\nMemTotal: {total // 1024} kB\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("memory", "cores", "expected"),
    [
        (16 * GIB, 8, LARGE),
        (GIB * 15 // 2, 4, LARGE),
        (GIB * 15 // 2 - 1, 4, MEDIUM),
        (16 * GIB, 3.9, MEDIUM),
        (16 * GIB, 1.5, SMALL),
        (GIB * 7 // 2, 2, MEDIUM),
        (GIB * 7 // 2 - 1, 64, SMALL),
        (512 * MIB, 1, SMALL),
    ],
)
def test_the_profile_depends_on_the_memory_of_the_machine_and_is_smaller_if_there_are_few_cores(
    memory: int, cores: float, expected: profile.Profile
) -> None:
    assert profile.choose(memory, cores) is expected


@pytest.mark.parametrize("content", [None, "", "MemFree: 5 kB"])
def test_if_proc_meminfo_is_unreadable_the_error_asks_the_user_to_mount_proc(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        machine(tmp_path, {"proc/meminfo": content})
    with pytest.raises(ConfigurationError, match="mount /proc"):
        profile.resolve("auto", tmp_path)


def test_without_cgroups_the_memory_limit_is_the_memory_of_the_machine(tmp_path: Path) -> None:
    assert profile.machine_memory(machine(tmp_path, {}, total=3 * GIB)) == 3 * GIB


def test_with_cgroup_v2_the_memory_limit_is_the_lowest_one_of_the_process_cgroup_and_its_parents(
    tmp_path: Path,
) -> None:
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "0::/system.slice/app.service\n",
            "sys/fs/cgroup/system.slice/memory.max": f"{2 * GIB}\n",
            "sys/fs/cgroup/system.slice/app.service/memory.max": "max\n",
        },
    )
    assert profile.machine_memory(root) == 2 * GIB


def test_inside_a_container_the_memory_limit_is_read_at_the_mount_point_of_the_cgroup(tmp_path: Path) -> None:
    """The path in /proc/self/cgroup does not exist below the mount point, because it is a path of the host, or leads
    out of the cgroup namespace."""
    root = machine(
        tmp_path,
        {"proc/self/cgroup": "0::/../../docker/abc\n", "sys/fs/cgroup/memory.max": f"{GIB}\n"},
    )
    assert profile.machine_memory(root) == GIB


def test_with_cgroup_v1_the_number_that_means_unlimited_is_ignored(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/a\n1:name=systemd:/\n0::/\n",
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes": f"{GIB}\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "150000\n",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert profile.machine_memory(root) == GIB
    assert profile.machine_cores(root, affinity=8) == 1.5


def test_a_cpu_quota_limits_the_number_of_cores(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/app\n", "sys/fs/cgroup/app/cpu.max": "50000 100000\n"}
    assert profile.machine_cores(machine(tmp_path, files), affinity=8) == 0.5


def test_without_a_cpu_quota_the_number_of_cores_follows_from_the_cpu_affinity(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/app\n", "sys/fs/cgroup/app/cpu.max": "max 100000\n"}
    assert profile.machine_cores(machine(tmp_path, files), affinity=3) == 3


def test_the_profile_auto_depends_on_the_machine_and_other_profiles_do_not(tmp_path: Path) -> None:
    assert profile.resolve("auto", machine(tmp_path, {}, total=GIB)) is SMALL
    assert profile.resolve("large", machine(tmp_path, {}, total=GIB)) is LARGE


def test_the_memory_and_cores_of_the_machine_that_runs_the_tests_can_be_read() -> None:
    assert profile.machine_memory() > 0
    assert profile.machine_cores() > 0


def test_the_description_of_a_machine_has_its_memory_and_number_of_cores() -> None:
    assert profile.describe(4 * GIB, 1.0) == "4.0 GiB, 1 core"
    assert profile.describe(GIB, 1.55) == "1.0 GiB, 1.5 cores"

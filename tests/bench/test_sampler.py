"""Tests of the sampler, which measures the memory and CPU time of a process tree. If the target process dies, the
sampler raises an error instead of reporting a figure of zero."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import psutil
import pytest

from serverpy.bench.measure.errors import TargetDied
from serverpy.bench.measure.sampler import Reading, Sampler, read
from tests.aio import PATIENCE_SECONDS, wait_for

MIB = 1 << 20

# Each program prints a line when it is ready, then waits for its stdin to end.
HOLDER = "held = bytearray(b'x' * {mib} * 2**20); print('ready', flush=True); input()"
PARENT = f"""
import subprocess, sys
command = [sys.executable, '-c', {HOLDER.format(mib=8)!r}]
child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
for line in sys.stdin:
    if line == 'end\\n':
        child.kill()  # and leave it a zombie
    if line == 'reap\\n':
        child.wait()
    print('done', flush=True)
"""
BUSY = """
import subprocess, sys, time
burn = 'import time\\nwhile time.process_time() < 0.3: pass'
subprocess.run([sys.executable, '-c', burn])
print('ready', flush=True)
input()
"""
THREADED = """
import threading
stop = threading.Event()
threads = [threading.Thread(target=stop.wait) for _ in range(3)]
for thread in threads: thread.start()
files = [open('/dev/null') for _ in range(5)]
print('ready', flush=True)
try: input()
except EOFError: stop.set()
"""


@contextlib.contextmanager
def program(source: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `source` in a new Python process during the block. Yields the process and the first line of its output."""
    with subprocess.Popen(
        [sys.executable, "-c", source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def send(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


def test_a_reading_of_the_sampler_is_the_sum_over_all_processes_of_a_tree() -> None:
    with program(PARENT) as (process, said):
        both, child = read(process.pid), read(int(said))
        alone = read(process.pid, alone=True)
    assert (both.processes, alone.processes, child.processes) == (2, 1, 1)
    assert child.uss >= 8 * MIB
    assert both.uss == alone.uss + child.uss
    assert both.rss == alone.rss + child.rss
    assert both.fds == alone.fds + child.fds
    assert both.threads == alone.threads + child.threads == 2


def test_allocated_memory_increases_pss_uss_and_rss() -> None:
    with program(HOLDER.format(mib=1)) as (small, _), program(HOLDER.format(mib=33)) as (large, _):
        before, after = read(small.pid), read(large.pid)
    for field in ("pss", "uss", "rss"):
        difference = getattr(after, field) - getattr(before, field)
        assert abs(difference - 32 * MIB) < 2 * MIB, field


def test_pss_is_between_uss_and_rss() -> None:
    reading = read(os.getpid())
    assert reading.uss <= reading.pss <= reading.rss


def test_the_threads_and_file_descriptors_of_a_process_tree_are_counted() -> None:
    with program("print('ready', flush=True); input()") as (plain, _), program(THREADED) as (threaded, _):
        before, after = read(plain.pid), read(threaded.pid)
    assert after.threads - before.threads == 3
    assert after.fds - before.fds == 5


def test_a_child_that_its_parent_has_not_waited_for_is_counted_only_as_a_zombie() -> None:
    with program(PARENT) as (process, said):
        before = read(process.pid)
        send(process, "end")
        wait_for(lambda: psutil.Process(int(said)).status() == psutil.STATUS_ZOMBIE)
        dead = read(process.pid)
        send(process, "reap")
        gone = read(process.pid)
    assert (before.zombies, dead.zombies, gone.zombies) == (0, 1, 0)
    assert (before.processes, dead.processes, gone.processes) == (2, 1, 1)
    assert dead.uss < before.uss - 8 * MIB


def test_the_cpu_time_of_a_tree_includes_its_ended_children() -> None:
    with program(BUSY) as (process, _):
        assert read(process.pid).cpu >= 0.2  # /proc states CPU time in ticks of 10 ms, rounded down


def test_reading_a_process_that_has_ended_raises_target_died() -> None:
    with program("print('ready')") as (process, _):
        process.wait(PATIENCE_SECONDS)
    with pytest.raises(TargetDied):
        read(process.pid)


def test_reading_a_zombie_as_the_root_process_raises_target_died() -> None:
    with program("print('ready')") as (process, _):
        wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        with pytest.raises(TargetDied):
            read(process.pid)


def test_a_sampler_takes_readings_until_it_is_stopped_and_leaves_no_thread() -> None:
    threads = threading.active_count()
    with program(HOLDER.format(mib=1)) as (process, _):
        sampler = Sampler(process.pid, hz=100)
        sampler.start()
        wait_for(lambda: len(sampler.readings) >= 5)
        sampler.stop()
        taken = sampler.readings
        sampler.stop()
    assert threading.active_count() == threads
    assert taken == sampler.readings
    assert [reading.t for reading in taken] == sorted(reading.t for reading in taken)
    assert sampler.peak("pss") == max(reading.pss for reading in taken)


def test_the_sampler_takes_its_first_reading_at_the_start_and_its_last_at_the_stop() -> None:
    with program(HOLDER.format(mib=1)) as (process, _), Sampler(process.pid, hz=0.01) as sampler:
        assert len(sampler.readings) == 1
    assert len(sampler.readings) == 2


def test_check_peak_and_stop_of_a_sampler_raise_if_the_target_has_died() -> None:
    with program(HOLDER.format(mib=1)) as (process, _):
        sampler = Sampler(process.pid, hz=100)
        sampler.start()
        process.kill()
        wait_for(lambda: read_fails(sampler))
        for ask in (sampler.check, sampler.stop, lambda: sampler.peak("pss")):
            with pytest.raises(TargetDied):
                ask()
    assert isinstance(sampler.readings[0], Reading)


def test_a_sampler_block_in_which_the_target_dies_raises_target_died() -> None:
    with program(HOLDER.format(mib=1)) as (process, _), pytest.raises(TargetDied):
        killed_in_a_block(process)


def test_an_exception_in_a_sampler_block_is_raised_even_if_the_target_has_died() -> None:
    with program(HOLDER.format(mib=1)) as (process, _), pytest.raises(ZeroDivisionError):
        killed_in_a_block(process, ZeroDivisionError())


def test_a_sampler_cannot_start_for_a_target_process_that_has_ended() -> None:
    threads = threading.active_count()
    with program("print('ready')") as (process, _):
        process.wait(PATIENCE_SECONDS)
    with pytest.raises(TargetDied):
        Sampler(process.pid).start()
    assert threading.active_count() == threads


def killed_in_a_block(process: subprocess.Popen[str], error: Exception | None = None) -> None:
    with Sampler(process.pid, hz=100):
        process.kill()
        process.wait(PATIENCE_SECONDS)
        if error is not None:
            raise error


def read_fails(sampler: Sampler) -> bool:
    try:
        sampler.check()
    except TargetDied:
        return True
    return False

"""The run-length encoding of sample tables (ISO/IEC 14496-12 §8.6.1, §8.9.2): pairs of a count and a number."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from itertools import chain, groupby, repeat

from serverpy.media.mp4.boxes import swapped

_MAX_32 = 2**32 - 1


class Runs:
    """Numbers, one for each sample, as runs of equal numbers."""

    def __init__(self) -> None:
        self.counts = array("I")
        self.values = array("q")

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(map(repeat, self.values, self.counts))

    def add(self, count: int, value: int) -> None:
        if not count:
            return
        if self.values and self.values[-1] == value:
            self.counts[-1] += count
        else:
            self.counts.append(count)
            self.values.append(value)

    def extend(self, values: array[int]) -> None:
        for value, same in groupby(values):
            self.add(sum(1 for _ in same), value)

    def change_last(self, value: int) -> None:
        """Replace the last number by `value`. Equal numbers before it stay."""
        self.counts[-1] -= 1
        if not self.counts[-1]:
            self.counts.pop()
            self.values.pop()
        self.add(1, value)

    def packed(self) -> bytes:
        """Return the runs as the content of an stts, ctts or sbgp box: big-endian numbers of 32 bits."""
        rows = array("I", bytes(8 * len(self.counts)))
        rows[0::2] = self.counts
        rows[1::2] = array("I", (value & _MAX_32 for value in self.values))
        return struct.pack(">I", len(self.counts)) + swapped(rows).tobytes()

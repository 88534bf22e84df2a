"""Inputs made from good ones: bytes flipped, pieces cut, doubled, moved and put in, lengths bent.

In: a seed for the random numbers, good inputs, and tokens that mean something to the target.  Out: one input after
the other, the same ones for the same seed.  It knows no format and no coverage; guided.py has the fuzzer that does.
"""
from __future__ import annotations

import random
from typing import Sequence

BYTES = (0, 1, 2, 4, 5, 7, 8, 127, 128, 129, 254, 255)
WORDS = (0, 1, 8, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFF8, 0xFFFF)
LONGS = (0, 1, 127, 128, 0x7FFFFFFF, 0x80000000, 0x80000001, 0x80000010, 0x80000080, 0x80010000, 0xFFFFFFFF)
# Longer ones show nothing more, and take their time.
LONGEST = 4096


class Mutator:
    """See the module's contract.

    random: the source of all choices; seeds: good inputs; tokens: put in here and there.
    """

    def __init__(self, seed: int, seeds: Sequence[bytes], tokens: Sequence[bytes] = ()) -> None:
        self.random = random.Random(seed)
        self._seeds, self._tokens = list(seeds), list(tokens) or [b"\0"]
        self._changes = (self._flip, self._put_byte, self._put_word, self._put_long, self._put_token, self._cut,
                         self._cut_end, self._double, self._move, self._splice, self._noise)

    def __call__(self) -> bytes:
        """The next input."""
        pick = self.random
        data = bytearray(pick.choice(self._seeds))
        for _ in range(pick.choice((1, 1, 2, 3, 5, 8))):
            pick.choice(self._changes)(data)
        return bytes(data[:LONGEST])

    def _at(self, data: bytearray) -> int:
        return int(self.random.random() * (len(data) + 1))

    def _slice(self, data: bytearray) -> slice:
        start = self._at(data)
        return slice(start, start + self.random.choice((1, 2, 4, 8, 16, 40, 200)))

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._at(data) - 1] ^= 1 << self.random.randrange(8)

    def _put_byte(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at + self.random.randrange(2)] = bytes((self.random.choice(BYTES),))

    def _put_word(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at + 2 * self.random.randrange(2)] = self.random.choice(WORDS).to_bytes(2, "big")

    def _put_long(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at + 4 * self.random.randrange(2)] = self.random.choice(LONGS).to_bytes(4, "big")

    def _put_token(self, data: bytearray) -> None:
        at, token = self._at(data), self.random.choice(self._tokens)
        data[at:at + len(token) * self.random.randrange(2)] = token

    def _cut(self, data: bytearray) -> None:
        del data[self._slice(data)]

    def _cut_end(self, data: bytearray) -> None:
        del data[self._at(data):]

    def _double(self, data: bytearray) -> None:
        piece = self._slice(data)
        data[piece.stop:piece.stop] = data[piece] * self.random.choice((1, 1, 2, 9))

    def _move(self, data: bytearray) -> None:
        piece = self._slice(data)
        moved = data[piece]
        del data[piece]
        at = self._at(data)
        data[at:at] = moved

    def _splice(self, data: bytearray) -> None:
        other = self.random.choice(self._seeds)
        at = self._at(data)
        data[at:] = other[int(self.random.random() * (len(other) + 1)):]

    def _noise(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = bytes(self.random.getrandbits(8) for _ in range(self.random.choice((1, 3, 20))))

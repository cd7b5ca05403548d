"""Asymmetric numeral systems (Duda 2009, the range variant) over parallel lanes: a stack of bits that holds symbols.

Pushing a symbol of probability f / 2^24 adds log2(2^24 / f) bits; popping is the exact inverse. Popping a symbol that
was never pushed draws it at random from the bits on the stack, which is the idea of bits-back coding (Townsend et al.
2019).

Each lane has a head, an integer in [2^31, 2^63). Overflowing bits go onto one tail of 32-bit words, shared by all
lanes. All arithmetic is in integers, so every machine computes the same.
"""

from collections.abc import Callable

import numpy as np

from aevb.compression.errors import CompressionError

PRECISION = 24
"""Probabilities are multiples of 2^-24."""

TOTAL = 1 << PRECISION

_LOW = np.uint64(1 << 31)
_WORD = np.uint64(32)
_SHIFT = np.uint64(PRECISION)
_MASK = np.uint64(TOTAL - 1)
_TOTAL = np.uint64(TOTAL)
_FULL = np.uint64(63 - PRECISION)
_LENGTH_BITS = 5  # for the number of bits of a head above 31

Find = Callable[[int, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""A function `(j, points [b] in 0..2^24) -> (symbols, starts, lengths)` of the intervals around the points, uint64."""


class Stack:
    """Lanes with one shared tail.

    Attributes:
      heads: the heads of the lanes, `[B]` uint64.
      num_seed_words: the number of words taken from the seed, an endless supply below the message.
    """

    def __init__(self, seed: Callable[[int], np.ndarray] | None):
        """Create a stack without lanes and without a message.

        Args:
          seed: a function `n -> [n]` uint32 that returns the first n words below the message, from the top down;
            `None` if no words may be taken from there.
        """
        self.heads = np.zeros(0, np.uint64)
        self.num_seed_words = 0
        self._seed = seed
        self._tail, self._size = np.zeros(1024, np.uint32), 0

    @classmethod
    def of_message(cls, heads: np.ndarray, words: np.ndarray) -> "Stack":
        """Return a stack with these heads and tail words and without a seed."""
        stack = cls(None)
        stack.heads, stack._tail, stack._size = heads.copy(), words.astype(np.uint32), len(words)
        return stack

    @property
    def words(self) -> np.ndarray:
        """The tail, `[n]` uint32, the top at the end."""
        return self._tail[: self._size]

    def open_lanes(self, number: int) -> None:
        """Add lanes until there are `number`. Each new head is a word of the tail below a leading one, at no cost."""
        missing = number - len(self.heads)
        if missing > 0:
            new = self._take(missing).astype(np.uint64) | np.uint64(1 << 32)
            self.heads = np.concatenate([self.heads, new])

    def close_lanes(self, number: int) -> None:
        """Undo `open_lanes`: keep the first `number` lanes.

        Raises:
          CompressionError: a head differs from the value with which its lane was opened.
        """
        closed = self.heads[number:]
        if np.any(closed >> _WORD != 1):
            raise CompressionError(_UNDECODABLE)
        self._put(closed)
        self.heads = self.heads[:number].copy()

    def push(self, starts: np.ndarray, frequencies: np.ndarray) -> None:
        """Push symbols `[n, b]`, given by their intervals in 0..2^24, onto the first b lanes, the last row first.

        Raises:
          CompressionError: an interval is empty, which happens if the message is damaged.
        """
        if not frequencies.all():
            raise CompressionError(_UNDECODABLE)
        starts, frequencies = starts.astype(np.uint64), frequencies.astype(np.uint64)
        limits, rests = frequencies << _FULL, _TOTAL - frequencies
        heads = self.heads[: starts.shape[1]]
        for row in range(len(starts) - 1, -1, -1):
            is_full = heads >= limits[row]
            if np.count_nonzero(is_full):
                over = heads[is_full]
                self._put(over)
                heads[is_full] = over >> _WORD
            quotient = heads // frequencies[row]
            quotient *= rests[row]
            heads += quotient
            heads += starts[row]

    def pop(self, num_symbols: int, num_lanes: int, find: Find) -> np.ndarray:
        """Pop rows of symbols `[n, b]` from the first b lanes, the first row first.

        Raises:
          CompressionError: the message has no more bits, which happens if it is damaged.
        """
        heads = self.heads[:num_lanes]
        symbols = np.empty((num_symbols, num_lanes), np.int64)
        for row in range(num_symbols):
            points = heads & _MASK
            symbols[row], starts, frequencies = find(row, points)
            heads >>= _SHIFT
            heads *= frequencies
            points -= starts
            heads += points
            is_low = heads < _LOW
            if np.count_nonzero(is_low):
                low = heads[is_low]
                heads[is_low] = low << _WORD | self._take(len(low)).astype(np.uint64)
        return symbols

    def saved(self, num_words: int) -> Callable[[], None]:
        """Return a function that restores this state, provided that at most `num_words` words are taken until then."""
        heads, size, num_seed_words = self.heads.copy(), self._size, self.num_seed_words
        first = max(size - num_words, 0)
        words = self._tail[first:size].copy()

        def restore() -> None:
            # Words taken from the seed in the meantime lie at the bottom of the tail.
            more = self.num_seed_words - num_seed_words
            if more:
                self._tail = self._tail[more:].copy() if more < len(self._tail) else np.zeros(1024, np.uint32)
            self._reserve(size)
            self._tail[first:size] = words
            self.heads, self._size, self.num_seed_words = heads.copy(), size, num_seed_words

        return restore

    def _put(self, heads: np.ndarray) -> None:
        """Push the lower words of heads onto the tail."""
        self._reserve(self._size + len(heads))
        self._tail[self._size : self._size + len(heads)] = heads.astype(np.uint32)
        self._size += len(heads)

    def _take(self, number: int) -> np.ndarray:
        if number > self._size:
            self._take_seed(number - self._size)
        self._size -= number
        return self._tail[self._size : self._size + number]

    def _take_seed(self, number: int) -> None:
        """Move words of the seed to the bottom of the tail."""
        if self._seed is None:
            raise CompressionError(_UNDECODABLE)
        new = self._seed(self.num_seed_words + number)[self.num_seed_words :][::-1]
        self._tail = np.concatenate([new, self._tail])
        self.num_seed_words, self._size = self.num_seed_words + number, self._size + number

    def _reserve(self, size: int) -> None:
        if size > len(self._tail):
            self._tail = np.concatenate([self._tail, np.zeros(size, np.uint32)])


_UNDECODABLE = "the message cannot be decoded: it was written by another program or with other probabilities"


def random_words(number: int) -> np.ndarray:
    """Return the first `number` words of the seed, `[n]` uint32: the raw stream of Philox, the same everywhere."""
    raw = np.random.Philox(key=2013).random_raw(number)
    return (raw >> np.uint64(32)).astype(np.uint32)


def pack_heads(heads: np.ndarray) -> bytes:
    """Return heads as bytes: for each, the number of bits above 31, in 5 bits, and the bits below the leading one."""
    fields = []
    for head in heads.tolist():
        length = head.bit_length() - 1
        fields.append(f"{length - 31:0{_LENGTH_BITS}b}{head - (1 << length):0{length}b}")
    bits = "".join(fields)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def unpack_heads(data: bytes, number: int) -> tuple[np.ndarray, int]:
    """Return `number` heads, `[B]` uint64, from the beginning of `data`, and the number of bytes they occupy.

    Raises:
      CompressionError: `data` holds fewer heads.
    """
    longest = number * (_LENGTH_BITS + 62)
    bits = np.unpackbits(np.frombuffer(data[: longest // 8 + 1], np.uint8))
    text, place, heads = "".join(map(str, bits.tolist())), 0, []
    for _ in range(number):
        start = place + _LENGTH_BITS
        length = 31 + int(text[place:start] or "0", 2)
        place = start + length
        if place > len(text):
            raise CompressionError(_UNDECODABLE)
        heads.append((1 << length) + int(text[start:place], 2))
    return np.array(heads, np.uint64), -(-place // 8)

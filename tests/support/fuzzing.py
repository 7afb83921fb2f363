"""Change bytes at random, and what a target of fuzzing is; `tests/measure/fuzz.py` runs them."""

import random
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Judge", "Target", "mutate"]

NUMBERS = (b"0", b"-1", b"1e999", b"nan", b"inf", b"99999999999", b"2147483648", b"1e-320", b"")
WORDS = (b"none", b"LIST", b"../a", b"/dev/zero", b"True", b"\0", b"%d", b"(", b"= ", b": ", b"\n")

Judge = Callable[[str, bytes], tuple[str, str]]
"""Takes a seed's name and changed content; names the answer, and what is wrong with it, if any."""


@dataclass(frozen=True)
class Target:
    """Something that reads bytes of strangers.

    Attributes:
        seeds: Good contents by name.
        open: Makes the judge; gets a folder to work in, which is its own.
        tokens: More words to put into contents.
    """

    seeds: Mapping[str, bytes]
    open: Callable[[Path], AbstractContextManager[Judge]]
    tokens: tuple[bytes, ...] = ()


def mutate(content: bytes, generator: random.Random, tokens: tuple[bytes, ...] = ()) -> bytes:
    """Change a few things: bits, bytes, numbers, words, whole pieces; mostly near the start."""
    data = bytearray(content)
    for _ in range(generator.choice((1, 1, 1, 2, 4, 8))):
        reach = len(data) if generator.random() < 0.3 else min(len(data), 600)
        place = generator.randrange(max(reach, 1))
        kind = generator.randrange(7)
        if kind == 0 and data:
            data[place % len(data)] ^= 1 << generator.randrange(8)
        elif kind == 1:
            data[place : place + 1] = bytes([generator.randrange(256)])
        elif kind == 2:
            data[place : place + 4] = generator.randbytes(4)
        elif kind == 3:
            data[place : place + generator.randrange(1, 9)] = generator.choice(NUMBERS)
        elif kind == 4:
            data[place:place] = generator.choice((*WORDS, *tokens))
        elif kind == 5:
            del data[place : place + generator.randrange(1, 200)]
        else:
            data[place:place] = data[place : place + generator.randrange(1, 200)]
    return bytes(data)

"""One random stream per purpose, so that a new consumer of randomness never shifts an old one."""

from __future__ import annotations

import hashlib


def stream_seed(seed: int, purpose: str, *counters: int) -> int:
    """Return the seed of the stream that `purpose` (and `counters` within it) owns in a run.

    A cryptographic hash keeps neighbouring seeds and counters unrelated, which ``seed + epoch`` would not: there,
    epoch 1 of seed 0 is epoch 0 of seed 1. It also stays the same over versions of every library.

    Args:
        seed: The run's seed.
        purpose: What the stream is for, for example ``"init"``.
        counters: For example the epoch, where every epoch has its own stream.

    Returns:
        A number in ``[0, 2**63)``, good for `torch.Generator` and `numpy.random.default_rng`. Torch's generator on the
        CPU uses the low 32 bits of it.

    >>> stream_seed(0, "order", 1) == stream_seed(0, "order", 1)
    True
    >>> len({stream_seed(0, "order", 1), stream_seed(1, "order", 0), stream_seed(0, "init")})
    3
    """
    words = "/".join([str(int(seed)), purpose, *(str(int(counter)) for counter in counters)])
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") >> 1

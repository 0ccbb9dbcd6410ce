"""In which order those that are measured take their turns."""

from __future__ import annotations


def turn_orders(count: int) -> tuple[tuple[int, ...], ...]:
    """Returns the orders of the rounds, to be gone through again and again.

    In them each goes first, second and so on equally often, and follows each other one
    equally often within a round: what a call leaves behind (caches, threads that spin) meets
    all alike. This is a Latin square balanced for what is carried over (E. J. Williams,
    Australian Journal of Scientific Research A 2, 1949): ``count`` rounds, twice that where
    ``count`` is odd and above 1.

    Args:
        count: How many take turns, at least 1.
    """
    first = [(step + 1) // 2 if step % 2 else -(step // 2) for step in range(count)]
    rows = [tuple((start + step) % count for step in first) for start in range(count)]
    if count % 2 == 0 or count == 1:
        return tuple(rows)
    # Backwards, and in this order nobody has two turns running from one round to the next.
    backwards = [row[::-1] for row in (rows[0], *rows[:0:-1])]
    return (*rows, *backwards)

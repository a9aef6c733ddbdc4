"""Tables that plans for several batch sizes share, because they are of one image: kept where they are small."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

Made = TypeVar("Made", bound=Callable)

_caches: list[Any] = []


def kept(small: Callable[..., bool]) -> Callable[[Made], Made]:
    """Has a function keep what it makes for arguments that are ``small``."""

    def keeping(function: Made) -> Made:
        keep = functools.lru_cache(maxsize=128)(function)
        _caches.append(keep)

        @functools.wraps(function)
        def either(*args, **options):
            return (keep if small(*args, **options) else function)(*args, **options)

        return either  # type: ignore[return-value]

    return keeping


def count() -> int:
    """How many tables there are."""
    return sum([cache.cache_info().currsize for cache in _caches])


def clear() -> None:
    for cache in _caches:
        cache.cache_clear()

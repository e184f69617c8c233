"""One call by either client, as a list of images."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from ganvas_client import AsyncSampler, Sampler

__all__ = ["CLIENTS", "OF_TRITON", "THROUGH_THE_SERVICE", "Ask"]

Ask = Callable[..., list[Any]]
"""Of address, method and the method's arguments; and `direct`, of the client."""


def _ask(address: str, method: str, *args: Any, direct: bool = True, **kwargs: Any) -> list[Any]:
    return _asked(Sampler(address, direct=direct), method, *args, **kwargs)


def _ask_triton(address: str, method: str, *args: Any, **kwargs: Any) -> list[Any]:
    return _asked(Sampler.direct(address), method, *args, **kwargs)


def _asked(made: Sampler, method: str, *args: Any, **kwargs: Any) -> list[Any]:
    with made as sampler:
        return list(getattr(sampler, method)(*args, **kwargs))


def _ask_async(address: str, method: str, *args: Any, direct: bool = True, **kwargs: Any) -> list[Any]:
    return _asked_async(lambda: AsyncSampler(address, direct=direct), method, *args, **kwargs)


def _ask_triton_async(address: str, method: str, *args: Any, **kwargs: Any) -> list[Any]:
    return _asked_async(lambda: AsyncSampler.direct(address), method, *args, **kwargs)


def _asked_async(make: Callable[[], AsyncSampler], method: str, *args: Any, **kwargs: Any) -> list[Any]:
    async def work() -> list[Any]:
        async with make() as sampler:
            call = getattr(sampler, method)(*args, **kwargs)
            return [image async for image in call] if hasattr(call, "__aiter__") else list(await call)

    return asyncio.run(work())


CLIENTS: dict[str, Ask] = {"sync": _ask, "async": _ask_async}
THROUGH_THE_SERVICE: dict[str, Ask] = {name: partial(ask, direct=False) for name, ask in CLIENTS.items()}
OF_TRITON: dict[str, Ask] = {"sync": _ask_triton, "async": _ask_triton_async}
"""By `direct`, of a Triton without a service."""

"""The examples of the client's README run as they stand, but for address and model names."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.service import LoopThread, Service

README = Path(__file__).parents[2] / "clients" / "python" / "README.md"


def example(number: int, address: str) -> str:
    """The Python block of that number, for the models of the tests: z is 16 wide there, not 64."""
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    text: str = re.sub(r"127\.0\.0\.1:(50051|8001)", address, blocks[number])
    return text.replace("digits-", "tiny-").replace("latents(range(64), 64)", "latents(range(64), 16)")


def test_example_of_sampler_runs(
    shared_service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(example(0, shared_service.address), str(README), "exec"), names)
    assert "tiny-vae 1 vae ('0', '1'," in capsys.readouterr().out
    assert names["again"].array.shape == (4, 32, 32, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "seven-14.png",
        "seven-159.png",
        "seven-3.png",
        "walk.gif",
    ]
    with Image.open("seven-14.png") as image:
        assert image.info["ganvas:label"] == "7"


def test_example_of_async_sampler_runs(
    shared_service: Service, loop_thread: LoopThread, capsys: pytest.CaptureFixture[str]
) -> None:
    text = example(1, shared_service.address)
    assert text.endswith("asyncio.run(main())\n")
    names: dict[str, Any] = {"asyncio": asyncio}
    exec(compile(text.removesuffix("asyncio.run(main())\n"), str(README), "exec"), names)
    loop_thread.run(names["main"]())
    assert len(capsys.readouterr().out.splitlines()) == 100

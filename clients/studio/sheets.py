"""Several images in one: sheets and animations, as files with their provenance.

Pillow works in a few threads, off the event loop.
"""

from __future__ import annotations

import asyncio
import io
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from clients.studio.addresses import Animation
from clients.studio.problems import BusyError
from ganvas_client import InvalidArgumentError, UnimplementedError
from ganvas_core.formats import FileFormat
from ganvas_core.grid import image_grid
from ganvas_core.provenance import encode_image, to_pil

__all__ = ["MAX_PIXELS", "Workers", "animation_file", "check_pixels", "sheet_file"]

T = TypeVar("T")

MAX_PIXELS = 48 * 2**20
"""Of a sheet, or of all frames of an animation together."""
MAX_JOBS = 8
FFMPEG_TIMEOUT_S = 60.0


class Workers:
    """Threads for work on whole images, and a bound on what waits for them."""

    def __init__(self, threads: int = 2) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="sheets")
        self._num_jobs = 0

    async def run(self, work: Callable[[], T]) -> T:
        """
        Raises:
            BusyError: MAX_JOBS are waiting or running.
        """
        if self._num_jobs >= MAX_JOBS:
            raise BusyError(f"{MAX_JOBS} sheets, animations and uploads are being worked on already. Retry in 1 s.")
        self._num_jobs += 1
        job = asyncio.get_running_loop().run_in_executor(self._pool, work)
        job.add_done_callback(self._ended)
        return await job

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ended(self, job: asyncio.Future[T]) -> None:
        self._num_jobs -= 1


def check_pixels(num_images: int, height: int, width: int, scale: int) -> None:
    """
    Raises:
        InvalidArgumentError: so many images, so large, are too much for one file.
    """
    if (total := num_images * height * width * scale**2) > MAX_PIXELS:
        raise InvalidArgumentError(
            f"{num_images} images of {width} x {height} at scale {scale} are {total / 2**20:.0f} million pixels; at "
            f"most {MAX_PIXELS / 2**20:.0f} million go into one file. Ask for fewer images or a smaller scale."
        )


def sheet_file(
    images: NDArray[np.uint8], file_format: FileFormat, text: Mapping[str, str], *, columns: int | None, scale: int
) -> bytes:
    """Images side by side, row by row.

    Args:
        images: [N,H,W,C] uint8.
        columns: None: as close to a square as their number allows.
    """
    count, height, width = images.shape[:3]
    columns = columns or math.ceil(math.sqrt(count * height / width))
    return encode_image(image_grid(images, num_columns=min(columns, count), scale=scale), file_format, text)


def animation_file(
    frames: NDArray[np.uint8], file_format: Animation, text: Mapping[str, str], *, scale: int, frame_ms: int, loop: bool
) -> bytes:
    """Images one after the other, each pixel enlarged to scale x scale.

    Args:
        frames: [N,H,W,C] uint8.
        loop: whether it starts again at its end.
    Raises:
        UnimplementedError: mp4, and this machine has no ffmpeg.
    """
    frames = frames.repeat(scale, axis=1).repeat(scale, axis=2)
    if file_format == "mp4":
        return _mp4(frames, text, frame_ms)
    first, *others = [to_pil(frame) for frame in frames]
    file = io.BytesIO()
    repeat = {"loop": 0} if loop or file_format == "webp" else {}
    comment = "; ".join(f"{key}={value}" for key, value in text.items())
    if file_format == "gif":
        first.save(
            file, "GIF", save_all=True, append_images=others, duration=frame_ms, comment=comment.encode(), **repeat
        )
    else:
        first.save(
            file,
            "WEBP",
            save_all=True,
            append_images=others,
            duration=frame_ms,
            lossless=True,
            method=0,
            quality=20,
            xmp=_xmp(comment),
            **({"loop": 0} if loop else {"loop": 1}),
        )
    return file.getvalue()


def _xmp(comment: str) -> bytes:
    escaped = comment.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" rdf:about=""><dc:description><rdf:Alt>'
        f'<rdf:li xml:lang="x-default">{escaped}</rdf:li>'
        "</rdf:Alt></dc:description></rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def _mp4(frames: NDArray[np.uint8], text: Mapping[str, str], frame_ms: int) -> bytes:
    """H.264, which takes even sizes alone: the last row and column are repeated where they are odd."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise UnimplementedError(
            "mp4 needs ffmpeg on the studio's machine: apt-get install ffmpeg. Without it there are gif and webp."
        )
    _, height, width, channels = frames.shape
    frames = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    with tempfile.TemporaryDirectory(prefix="ganvas-") as folder:
        path = Path(folder) / "walk.mp4"
        command = [ffmpeg, "-hide_banner", "-loglevel", "error", "-f", "rawvideo"]
        command += ["-pixel_format", {1: "gray", 3: "rgb24", 4: "rgba"}[channels]]
        command += ["-video_size", f"{frames.shape[2]}x{frames.shape[1]}", "-framerate", f"{1000 / frame_ms:.6g}"]
        command += ["-i", "-", "-metadata", f"comment={text['Description']}", "-c:v", "libx264", "-crf", "16"]
        command += ["-pix_fmt", "yuv420p", "-movflags", "+faststart", str(path)]
        done = subprocess.run(command, input=frames.tobytes(), capture_output=True, timeout=FFMPEG_TIMEOUT_S)
        if done.returncode != 0:
            raise UnimplementedError(f"ffmpeg could not write the mp4: {done.stderr.decode(errors='replace')[-300:]}")
        return path.read_bytes()

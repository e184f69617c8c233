"""Everything about a GPU that only a GPU can tell: `python -m benchmarks.gpu REPOSITORY NAME [--out FILE]`.

On a machine with an NVIDIA driver, after `./ganvas` has made .venv there, it says what is installed, makes the golden
images again by the strict and the fast tier, sees whether the GPU takes every node, and measures each batch size: a run
as the backend does it, with IO binding to buffers on the device, replayed as a CUDA graph (the ceiling), TensorRT, and
the fp16 file; and what switching between two batch sizes costs. It prints a report in Markdown and writes it to FILE.
What fails is in the report with its reason, and the rest goes on.

`--device cpu` runs the same script on the CPU, to try the script; its report says so, and has no figure of a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from ganvas_core.interface import Arrays, sample_inputs
from serving.repository.golden import GoldenMismatchError, compare_golden, golden_inputs
from serving.repository.reader import ModelVersion, read_version

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
STRICT = {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}
FAST = {"use_tf32": "1", "cudnn_conv_algo_search": "HEURISTIC"}
NO_FALLBACK = "session.disable_cpu_ep_fallback"
REPEATS, WARM_UPS = 50, 5
BIGGER = (32, 64, 128, 256)
"""Batches beyond the certificate's, to see whether larger buckets would pay."""

Run = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Model:
    """One version of a sampler."""

    entry: ModelVersion

    @property
    def folder(self) -> Path:
        return self.entry.folder

    def inputs(self, count: int) -> Arrays:
        labels = 0 if self.entry.certificate.labels else None
        return sample_inputs(np.arange(count, dtype=np.uint64), labels=labels)

    def batches(self) -> list[int]:
        most = self.entry.certificate.max_batch_size
        powers = [2**power for power in range(most.bit_length()) if 2**power < most]
        return [*powers, most, *(size for size in BIGGER if size > most)]


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path)
    parser.add_argument("name")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    arguments = parser.parse_args()
    version = max(int(path.name) for path in (arguments.repository / arguments.name).iterdir() if path.name.isdecimal())
    model = Model(entry=read_version(arguments.repository, arguments.name, version))
    if arguments.device == "cuda":
        ort.preload_dlls()
    sections = [
        _machine(model, arguments.device),
        _section("Golden images", lambda: _golden(model, arguments.device)),
        _section("Nodes that the GPU does not take", lambda: _nodes(model, arguments.device)),
        _section("Milliseconds a batch", lambda: _speed(model, arguments.device, arguments.repeats)),
        _section("Switching between batch sizes", lambda: _switching(model, arguments.device, arguments.repeats)),
    ]
    report = "\n\n".join(sections) + "\n"
    print(report)
    if arguments.out is not None:
        arguments.out.write_text(report, encoding="utf-8")


def _section(title: str, work: Callable[[], str]) -> str:
    try:
        text = work()
    except Exception as error:  # the report is to say what does not work on this machine
        text = f"Failed: {type(error).__name__}: {str(error).splitlines()[0]}"
    return f"## {title}\n\n{text}"


def _machine(model: Model, device: str) -> str:
    gpu = "none: run on the CPU to try the script. No figure below is of a GPU."
    if device == "cuda":
        query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        gpu = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    lines = [
        f"# {model.entry.name} {model.entry.version} on {'a GPU' if device == 'cuda' else 'the CPU'}",
        "",
        f"- {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC, {platform.platform()}, {platform.processor()}",
        f"- GPU: {gpu}",
        f"- ONNX Runtime {ort.__version__}, providers {', '.join(ort.get_available_providers())}",
    ]
    return "\n".join(lines)


def _session(
    model: Model, device: str, options: dict[str, str], *, file: str = "model.onnx", fallback: bool = True
) -> ort.InferenceSession:
    """Raises a RuntimeError where ONNX Runtime went on with another provider than the one asked for."""
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    wanted = CPU if device == "cpu" else TENSORRT if device == "tensorrt" else CUDA
    providers: list[Any] = [(wanted, options if device != "cpu" else {})]
    if device == "tensorrt":
        providers.append((CUDA, FAST))
    if not fallback:
        settings.add_session_config_entry(NO_FALLBACK, "1")
        providers = providers if device != "cpu" else []
    elif device != "cpu":
        providers.append((CPU, {}))
    session = ort.InferenceSession(str(model.folder / file), settings, providers=providers)
    if session.get_providers()[0] != wanted:
        raise RuntimeError(f"ONNX Runtime fell back from {wanted} to {session.get_providers()[0]}")
    return session


def _golden(model: Model, device: str) -> str:
    """The certificate's golden images by each tier, one by one and padded to the largest batch."""
    entry = model.entry
    lines, reference = [], None
    for tier, file, options in (("strict", "model.onnx", STRICT), ("fast", "model.fp16.onnx", FAST)):
        if not (model.folder / file).exists():
            lines.append(f"- {tier}: there is no {file}")
            continue
        version = dataclasses.replace(entry, file_name=file)
        (images,) = _session(model, device, options, file=file).run(["image"], golden_inputs(version, "sample"))
        try:
            outcome: str = compare_golden(version, images)
        except GoldenMismatchError as error:
            outcome = f"not as certified: {error}"
        line = f"- {tier}, {file}: {outcome}"
        if reference is None:
            reference = images
        else:
            line += f"; at most {int(np.abs(images.astype(int) - reference.astype(int)).max())} levels from strict"
        lines.append(line)
    return "\n".join(lines)


def _nodes(model: Model, device: str) -> str:
    try:
        _session(model, device, STRICT, fallback=False)
    except Exception as error:
        return f"Not every node runs on the GPU, or it cannot be used: {str(error).splitlines()[0]}"
    return "None: the session loads with the fallback to the CPU disabled."


def _speed(model: Model, device: str, repeats: int) -> str:
    """A column for each way, a row for each batch size."""
    ways: dict[str, Callable[[int], Run]] = {
        "strict": lambda count: _plain(_session(model, device, STRICT), model, count),
        "fast": lambda count: _plain(_session(model, device, FAST), model, count),
        "fast, IO binding": lambda count: _bound(_session(model, device, FAST), model, count, device),
    }
    if (model.folder / "model.fp16.onnx").exists():
        ways["fp16"] = lambda count: _plain(_session(model, device, FAST, file="model.fp16.onnx"), model, count)
    if device == "cuda":
        graph = FAST | {"enable_cuda_graph": "1"}
        ways["CUDA graph"] = lambda count: _bound(_session(model, device, graph), model, count, device)
        ways["TensorRT fp16"] = lambda count: _plain(
            _session(model, "tensorrt", {"trt_fp16_enable": "1"}, file="model.fp16.onnx"), model, count
        )
    lines = [f"| images | {' | '.join(ways)} |", "| --- " * (len(ways) + 1) + "|"]
    notes = []
    for count in model.batches():
        cells = []
        for title, make in ways.items():
            try:
                cells.append(f"{_median_ms(make(count), repeats):.3f}")
            except Exception as error:
                cells.append("failed")
                notes.append(f"- {title}, {count}: {str(error).splitlines()[0]}")
        lines.append(f"| {count} | {' | '.join(cells)} |")
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _plain(session: ort.InferenceSession, model: Model, count: int) -> Run:
    inputs = model.inputs(count)
    return lambda: session.run(["image"], inputs)


def _bound(session: ort.InferenceSession, model: Model, count: int, device: str) -> Run:
    """Inputs and outputs stay on the device, at the same addresses."""
    binding = session.io_binding()
    values = [ort.OrtValue.ortvalue_from_numpy(array, device, 0) for array in model.inputs(count).values()]
    for name, value in zip(model.inputs(count), values, strict=True):
        binding.bind_ortvalue_input(name, value)
    certificate = model.entry.certificate
    shape = (count, certificate.height, certificate.width, certificate.channels)
    output = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, device, 0)
    binding.bind_ortvalue_output("image", output)

    def run() -> Any:
        session.run_with_iobinding(binding)
        return output, values  # what they point to must live as long

    return run


def _switching(model: Model, device: str, repeats: int) -> str:
    """A run of one size right after a run of another, against runs of one size: cuDNN rebuilds plans on each change."""
    session = _session(model, device, STRICT)
    most = model.entry.certificate.max_batch_size
    large, small = (_plain(session, model, count) for count in (most, max(1, most // 2)))

    def both() -> None:
        large()
        small()

    apart = _median_ms(large, repeats) + _median_ms(small, repeats)
    return (
        f"{most} then {max(1, most // 2)}: {_median_ms(both, repeats):.3f} ms; each by itself, in sum: {apart:.3f} ms."
    )


def _median_ms(run: Run, repeats: int) -> float:
    for _ in range(WARM_UPS):
        run()
    times = []
    for _ in range(repeats):
        begin_s = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin_s)
    return statistics.median(times) * 1e3


if __name__ == "__main__":
    main()

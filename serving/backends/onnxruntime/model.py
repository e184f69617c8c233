"""A Python-based backend named onnxruntime: Triton hands it every model whose configuration says so.

Triton runs it in a process of its own, the stub, one for each model instance. It does as little as it can between
Triton and session.run: one concatenation of each input, one run, and responses that are slices of its outputs.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import triton_python_backend_utils as pb

if TYPE_CHECKING:
    from serving.backends.onnxruntime import ganvas_batches, ganvas_counts, ganvas_limits, ganvas_pipeline
else:
    import ganvas_batches  # Triton puts this folder on the path
    import ganvas_counts
    import ganvas_limits
    import ganvas_pipeline

Results = list[list[ganvas_batches.Array] | str]

SEND_S = 0.001
"""About what one answer from the pipeline takes."""


NUMPY_1 = np.__version__.startswith("1.")


class Batch(NamedTuple):
    """Requests that run as one."""

    feeds: ganvas_batches.Feeds
    sizes: list[int]
    """Rows of each request."""
    senders: Sequence[Any] = ()
    """Response senders, if the responses do not go back to Triton at once."""


class TritonPythonModel:
    """One instance of one version of one model."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Fill in inputs, outputs and batching where the configuration has none. Triton calls it before any load."""
        values = auto_complete_model_config.as_dict()
        if not (values["input"] and values["output"]):
            # Triton starts a process for this question alone: a complete configuration must not cost an import of
            # ONNX Runtime.
            import ganvas_completion  # type: ignore[import-not-found]

            try:
                ganvas_completion.complete(auto_complete_model_config, Path(pb.get_model_dir()))
            except ValueError as error:
                raise pb.TritonModelException(str(error)) from None
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Open the session. Raises a TritonModelException that names the key or the file at fault."""
        if TYPE_CHECKING:
            from serving.backends.onnxruntime import ganvas_session
        else:
            import ganvas_session

        threading.Thread(target=_end_with_triton, daemon=True).start()
        config = ganvas_session.Config(json.loads(args["model_config"]))
        device = int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else None
        version_folder = Path(args["model_repository"]) / args["model_version"]
        try:
            path = ganvas_session.model_file(version_folder, config)
            self._session = ganvas_session.open_session(path, config, device=device)
            ganvas_session.check_tensors(config, self._session)
            # On a GPU each new batch size costs a search for algorithms: pad to those that the configuration warms up.
            warm_sizes = ",".join(str(size) for size in config.warm_up_sizes)
            self._buckets = ganvas_batches.parse_buckets(
                config.parameter("batch_buckets", warm_sizes if device is not None else ""), config.max_batch_size
            )
        except ValueError as error:
            raise pb.TritonModelException(str(error)) from None
        limits = ganvas_limits.read_limits(version_folder)
        self._check = limits.problem if limits is not None else None
        self._run_options = ganvas_session.run_options(config)
        self._outputs = [entry["name"] for entry in config.outputs]
        self._max_batch_size = config.max_batch_size
        self._row_s = 0.0
        self._counts = ganvas_counts.Counts(args["model_name"], args["model_version"])
        self._pipeline = ganvas_pipeline.Pipeline(self._run, self._send)
        pb.Logger.log_info(f"{args['model_instance_name']}: {path} on {self._session.get_providers()[0]}")

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Answer one batch that Triton made.

        The plain way is to return the responses: Triton sends them, then calls again, and the computing rests
        meanwhile. When more is waiting, a pipeline computes and answers instead, and this returns at once, free for
        the next batch. Its answers take longer one by one, so it must not be used for a lone request, nor for a model
        that computes faster than they go out.

        A request that its client cancels in Triton's queue never gets here. One that is cancelled later is computed:
        to ask about each would cost more than it could save.
        """
        self._counts.hold(len(requests))
        responses = None
        try:
            responses = self._execute(requests)
        except BaseException:
            self._counts.hold(-len(requests))
            raise
        if responses is not None:  # else `_send` does it
            self._counts.hold(-len(requests))
        return responses

    def _execute(self, requests: list[Any]) -> list[Any] | None:
        feeds = [{tensor.name(): _array_of(tensor) for tensor in request.inputs()} for request in requests]
        if not self._max_batch_size:
            return [self._response(self._run_unbatched(inputs)) for inputs in feeds]
        sizes = [len(next(iter(inputs.values()))) for inputs in feeds]
        if self._is_pipelined(sizes):
            senders = [request.get_response_sender() for request in requests]
            self._pipeline.put(Batch(ganvas_batches.merge(feeds, copy=True), sizes, senders))
            return None
        self._pipeline.wait_idle()
        results = self._run(Batch(ganvas_batches.merge(feeds, copy=False), sizes))
        return [self._response(result) for result in results]

    def finalize(self) -> None:
        """Answer what is still being computed."""
        self._pipeline.close()

    def _is_pipelined(self, sizes: list[int]) -> bool:
        """Whether more work is waiting than this batch, and computing it takes longer than to send its answers."""
        more_waits = not self._pipeline.idle or 1 < self._max_batch_size <= sum(sizes)
        return more_waits and self._row_s * sum(sizes) > SEND_S * len(sizes)

    def _run(self, batch: Batch) -> Results:
        start = time.perf_counter()
        try:
            results = ganvas_batches.run_batch(self._run_session, batch.feeds, batch.sizes, self._buckets, self._check)
        except Exception as error:  # a defect must not end the thread that all later batches need
            results = [f"{type(error).__name__}: {error}"] * len(batch.sizes)
        took_s = time.perf_counter() - start
        self._row_s = took_s / sum(batch.sizes)
        self._counts.computed(took_s)
        return results

    def _run_unbatched(self, feeds: ganvas_batches.Feeds) -> list[ganvas_batches.Array] | str:
        """A request of a model without a batch dimension."""
        start = time.perf_counter()
        try:
            return self._run_session(feeds)
        except Exception as error:
            return str(error)
        finally:
            self._counts.computed(time.perf_counter() - start)

    def _run_session(self, feeds: ganvas_batches.Feeds) -> list[ganvas_batches.Array]:
        outputs: list[ganvas_batches.Array] = self._session.run(self._outputs, feeds, self._run_options)
        return outputs

    def _send(self, batch: Batch, results: Results) -> None:
        for sender, result in zip(batch.senders, results, strict=True):
            # No error may leave this loop: the thread would end, and no later batch would ever be answered.
            try:
                sender.send(self._response(result), flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            except Exception as error:
                with contextlib.suppress(Exception):  # so that the caller does not wait
                    pb.Logger.log_error(f"an answer could not be sent: {error}")
                    sender.send(
                        self._response(f"the answer could not be sent: {error}"),
                        flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL,
                    )
        self._counts.hold(-len(batch.senders))

    def _response(self, result: list[ganvas_batches.Array] | str) -> Any:
        if isinstance(result, str):
            # The second is how ONNX Runtime writes it.
            callers_fault = isinstance(result, ganvas_batches.Refusal) or "INVALID_ARGUMENT" in result
            code = pb.TritonError.INVALID_ARG if callers_fault else pb.TritonError.INTERNAL
            return pb.InferenceResponse(error=pb.TritonError(result, code))
        return pb.InferenceResponse(
            [_tensor_of(name, array) for name, array in zip(self._outputs, result, strict=True)]
        )


def _array_of(tensor: Any) -> ganvas_batches.Array:
    """An input as an array that is valid until `execute` returns.

    The stub takes every array for one of NumPy 1 and reads garbage from those of NumPy 2, without an error. DLPack is
    right with NumPy 2, and not to be had with NumPy 1.
    """
    array: ganvas_batches.Array = tensor.as_numpy() if NUMPY_1 else np.from_dlpack(tensor)
    return array


def _tensor_of(name: str, array: ganvas_batches.Array) -> Any:
    return pb.Tensor(name, array) if NUMPY_1 else pb.Tensor.from_dlpack(name, array)


def _end_with_triton() -> None:
    """End this process when Triton is killed: the stub would outlive it."""
    try:
        triton = os.pidfd_open(os.getppid())
    except OSError:
        return
    select.select([triton], [], [])
    os._exit(1)

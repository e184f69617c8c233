"""The verbs of the serving stage. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from serving.config import ConfigError, Limits, LogLevel, ServeConfig
from serving.doctor.report import doctor
from serving.repository.models import models
from serving.repository.verify import verify
from serving.supervisor import ServeError, supervise

__all__ = ["app"]

DEFAULT = ServeConfig()

app = typer.Typer(
    name="ganvas", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich"
)


@app.callback()
def _stage() -> None:
    """Serve exported models from NVIDIA Triton over gRPC."""


@app.command()
def serve(
    repository: Annotated[
        Path, typer.Option(envvar="GANVAS_REPOSITORY", help="The model repository: what ganvas export writes.")
    ] = DEFAULT.repository,
    host: Annotated[str, typer.Option(envvar="GANVAS_HOST", help="Where the sampling service listens.")] = DEFAULT.host,
    port: Annotated[
        int, typer.Option(envvar="GANVAS_PORT", help="Port of the sampling service; 0: a free one.")
    ] = DEFAULT.port,
    triton_host: Annotated[
        str, typer.Option(envvar="GANVAS_TRITON_HOST", help="Where Triton itself listens.")
    ] = DEFAULT.triton_host,
    triton_grpc_port: Annotated[
        int, typer.Option(envvar="GANVAS_TRITON_GRPC_PORT", help="Triton's gRPC port; 0: a free one.")
    ] = DEFAULT.triton_grpc_port,
    triton_http_port: Annotated[
        int, typer.Option(envvar="GANVAS_TRITON_HTTP_PORT", help="Triton's HTTP port; 0: a free one.")
    ] = DEFAULT.triton_http_port,
    triton_metrics_port: Annotated[
        int, typer.Option(envvar="GANVAS_TRITON_METRICS_PORT", help="Triton's metrics port; 0: a free one.")
    ] = DEFAULT.triton_metrics_port,
    config_name: Annotated[
        str | None,
        typer.Option(envvar="GANVAS_CONFIG_NAME", help="The models' configuration: cpu, gpu, gpu-fp16 or tensorrt."),
    ] = DEFAULT.config_name,
    max_count: Annotated[
        int, typer.Option(envvar="GANVAS_MAX_COUNT", help="Most images in one Sample, Decode or Encode.")
    ] = DEFAULT.limits.max_count,
    max_stream_count: Annotated[
        int, typer.Option(envvar="GANVAS_MAX_STREAM_COUNT", help="Most images in one SampleStream or Walk.")
    ] = DEFAULT.limits.max_stream_count,
    max_calls: Annotated[
        int, typer.Option(envvar="GANVAS_MAX_CALLS", help="Most calls answered at the same time.")
    ] = DEFAULT.limits.max_calls,
    drain_s: Annotated[
        float, typer.Option(envvar="GANVAS_DRAIN_S", help="Seconds that accepted calls get once it is stopped.")
    ] = DEFAULT.drain_s,
    start_s: Annotated[
        float, typer.Option(envvar="GANVAS_START_S", help="Seconds that Triton gets to load every model.")
    ] = DEFAULT.start_s,
    encode_threads: Annotated[
        int, typer.Option(envvar="GANVAS_ENCODE_THREADS", help="Threads for PNG, JPEG and WebP.")
    ] = DEFAULT.encode_threads,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write addresses and process ids here, as JSON, once everything is ready.")
    ] = DEFAULT.ready_file,
    log_dir: Annotated[
        Path | None, typer.Option(envvar="GANVAS_LOG_DIR", help="Keep triton.log and service.log in this folder.")
    ] = DEFAULT.log_dir,
    log_level: Annotated[
        LogLevel, typer.Option(envvar="GANVAS_LOG_LEVEL", help="The service's log; info has a line for every call.")
    ] = DEFAULT.log_level,
) -> None:
    """Start Triton and the sampling service; stop both cleanly on Ctrl-C or SIGTERM.

    Example: ganvas serve --repository model_repository --port 50051
    """
    # Past 60 lines only because typer takes one parameter for every option.
    try:
        config = ServeConfig(
            repository=repository,
            host=host,
            port=port,
            triton_host=triton_host,
            triton_grpc_port=triton_grpc_port,
            triton_http_port=triton_http_port,
            triton_metrics_port=triton_metrics_port,
            config_name=config_name,
            limits=Limits(max_count=max_count, max_stream_count=max_stream_count, max_calls=max_calls),
            drain_s=drain_s,
            start_s=start_s,
            encode_threads=encode_threads,
            ready_file=ready_file,
            log_dir=log_dir,
            log_level=log_level,
        )
        code = supervise(config, Console())
    except ConfigError as error:
        _leave(f"serve: {error}", 2)
    except ServeError as error:
        _leave(f"serve: {error}", 1)
    except KeyboardInterrupt:
        _leave("serve: stopped.", 130)
    raise typer.Exit(code)


def _leave(message: str, code: int) -> None:
    typer.echo(message, err=True)
    raise typer.Exit(code)


app.command()(verify)
app.command()(models)
app.command()(doctor)

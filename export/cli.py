"""`ganvas export`: a checkpoint into the model repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from export.errors import ExportError, InputError

if TYPE_CHECKING:
    from export.pipeline import ExportResult

__all__ = ["app", "main"]

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def stage() -> None:
    """Export trained models to proven ONNX samplers."""


@app.command(no_args_is_help=True)
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder that `ganvas train` wrote.")],
    name: Annotated[str, typer.Option(help="Name of the model; a new version is added where it exists.")],
    repository: Annotated[
        Path, typer.Option(help="Model repository folder, made if missing.", envvar="GANVAS_REPOSITORY")
    ] = Path("model_repository"),
    max_batch_size: Annotated[int, typer.Option(help="Images in one Triton batch: 1 to 1024.")] = 16,
    instances: Annotated[int, typer.Option(help="Triton instances on the CPU: batches computed at once.")] = 1,
    threads: Annotated[int, typer.Option(help="Compute threads of each instance on the CPU.")] = 1,
    fp32_node: Annotated[
        list[str] | None, typer.Option(help="Node to keep in float32 in the fp16 file; may be given again.")
    ] = None,
) -> None:
    """Export a checkpoint as a new version of a model, once its graphs are proven right.

    Example: ganvas export out/digits-gan/checkpoint --name digits-gan
    """
    progress = Console(stderr=True)
    try:
        # torch takes seconds to import, which --help need not wait for.
        from export.pipeline import ExportOptions, export_checkpoint

        options = ExportOptions(
            max_batch_size=max_batch_size, instances=instances, threads=threads, fp32_nodes=tuple(fp32_node or ())
        )
        with progress.status("exporting") as status:
            result = export_checkpoint(
                checkpoint, repository, name=name, options=options, report=lambda step: status.update(f"{step} …")
            )
    except ExportError as error:
        typer.echo(f"export: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, InputError) else 1) from None
    except KeyboardInterrupt:
        typer.echo("export: interrupted.", err=True)
        raise typer.Exit(130) from None
    typer.echo(describe(result))


def describe(result: ExportResult) -> str:
    """What was exported and how it was proven, in a few lines."""
    certificate = result.certificate
    lines = [f"{result.name} version {result.version} is in {result.folder} ({result.seconds:.1f} s)"]
    lines.append(
        f"  float parity   {certificate.float_parity.max_abs:.1e} before the uint8 tail "
        f"(limit {certificate.float_parity.atol:.0e}, {certificate.num_parity_seeds} seeds)"
    )
    for file_name, file in certificate.files.items():
        if (pixels := file.pixel_parity) is None:
            continue
        worst = "identical" if pixels.worst_psnr_db is None else f"worst image {pixels.worst_psnr_db:.1f} dB"
        lines.append(
            f"  {file.precision} images  max {pixels.max_levels}, mean {pixels.mean_levels:.4f} levels, {worst}; "
            f"{file_name} {file.sha256[:12]}"
        )
    batches = ", ".join(str(size) for size in certificate.parity_batches)
    lines.append(f"  same bytes     in every slot of batches of {batches}")
    return "\n".join(lines)


def main() -> None:
    app(prog_name="ganvas")


if __name__ == "__main__":
    main()

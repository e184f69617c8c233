"""The verb `export`: a checkpoint, or a network of anyone's, into the model repository."""

from __future__ import annotations

from export.options import CheckpointExportOptions
from export.progress import progress_bars
from ganvas_core.names import REPORT_FILE

__all__ = ["export"]


def export(options: CheckpointExportOptions) -> None:
    """Export a checkpoint, or any network by an adapter, as a new version of a model, once its graphs are proven right.

    Example: ./ganvas export out/digits-gan/checkpoint --name digits-gan
    """
    with progress_bars("reading the network") as report:
        # torch takes seconds to import, which --help need not wait for.
        from export.adapters.load import load_source
        from export.pipeline import export_model

        source = load_source(options)
        result = export_model(source, options, report=report)

    # Say what was exported and how it was proven.
    certificate = result.certificate
    print(f"{result.name} version {result.version} is in {result.folder} ({result.seconds:.1f} s)")
    print(
        f"  float parity   {certificate.float_parity.max_abs:.1e} before rounding to uint8 "
        f"from PyTorch in {certificate.float_parity.reference} "
        f"(limit {certificate.float_parity.atol:.1e}, {certificate.num_parity_seeds} seeds)"
    )
    for file_name, file in certificate.files.items():
        if (pixels := file.pixel_parity) is None:
            continue
        worst = "identical" if pixels.worst_psnr_db is None else f"worst image {pixels.worst_psnr_db:.1f} dB"
        arithmetic = " in half arithmetic" if pixels.arithmetic == "half" else ""
        print(
            f"  {file.precision} images    max {pixels.max_levels}, mean {pixels.mean_levels:.4f} levels, {worst}"
            f"{arithmetic}; {file_name} {file.sha256[:12]}"
        )
        if file.activations is not None:
            print(
                f"  fp16 range     largest activation {file.activations.peak:.3g} in {file.activations.node} "
                f"(limit {file.activations.limit:.0f}, {pixels.num_images} images)"
            )
            inside = [
                f"{len(names)} {what}"
                for names, what in ((file.fp32_nodes, "nodes in float32"), (file.rescaled, "layers rescaled"))
                if names
            ]
            if inside:
                print(f"  fp16 network   {' and '.join(inside)}; which and why: see the report")
            for weight, how in file.clipped.items():
                print(f"  warning        weight {weight}: {how}")
    if certificate.no_fp16 is not None:
        print(f"  no fp16 file   {certificate.no_fp16}")
    print(f"  report         {result.folder / REPORT_FILE}")
    for change in result.changes:
        print(f"  surgery        {change.step}: {change.num_changed} nodes, {change.won_ms:+.2f} ms a batch won")
    batches = ", ".join(str(size) for size in certificate.parity_batches)
    print(f"  same bytes     in every slot of batches of {batches}")

"""Whether the tests see a proof that was weakened: python -m tests.support.mutations [PART OF A NAME ...].

Each mutation changes one place of a copy of the tree and runs the tests that have to fail there. Prints a line for
each, and exits with 1 if any survives. Minutes: not a part of the suite.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNIT = "tests/unit/export"
PIPELINE, PROVE, HALF_GATE = (
    f"{UNIT}/test_pipeline.py",
    f"{UNIT}/proof/test_prove.py",
    f"{UNIT}/proof/test_half_gate.py",
)
PUBLISH, GUARDS = f"{UNIT}/publish/test_publish.py", f"{UNIT}/graph/test_guards.py"
MIXED, CHECK = f"{UNIT}/precision/test_mixed.py", f"{UNIT}/adapters/test_file.py"
REFUSED = f"{UNIT}/adapters/test_nothing_published.py"
BATCHES = f"{UNIT}/test_batch_dependence.py"
FILES = "clients/python/src/ganvas_core/files.py"
SYNC = "        os.fsync(file.fileno())\n"


@dataclass(frozen=True)
class Mutation:
    name: str
    file: str
    old: str
    """Stands exactly once in the file."""
    new: str
    tests: str
    """What has to fail, by path."""


MUTATIONS = (
    # A gate widened.
    Mutation("gate widened: fp16 levels", "export/proof/half_gate.py", "MAX_LEVELS = 2", "MAX_LEVELS = 3", HALF_GATE),
    Mutation("gate widened: fp16 mean", "export/proof/half_gate.py", "LEVELS = 0.05", "LEVELS = 0.5", HALF_GATE),
    Mutation("gate widened: worst image", "export/proof/half_gate.py", "PSNR_DB = 65.0", "PSNR_DB = 55.0", HALF_GATE),
    Mutation("gate widened: headroom", "export/proof/half_gate.py", "FP16_MAX / 4", "FP16_MAX", HALF_GATE),
    Mutation("gate widened: posterior", "export/proof/half_gate.py", "ATOL = 0.05", "ATOL = 0.5", HALF_GATE),
    Mutation("gate widened: fp32 levels", "export/proof/prove.py", "{FP32_FILE: 1,", "{FP32_FILE: 2,", PROVE),
    Mutation("gate widened: own errors", "export/proof/parity.py", "NUM_OWN_ERRORS = 4", "NUM_OWN_ERRORS = 400", PROVE),
    Mutation("gate widened: floor", "export/proof/parity.py", "FLOOR = 1e-6", "FLOOR = 1e-4", PROVE),
    # The encoder left out.
    Mutation(
        "encoder left out of fp32",
        "export/proof/prove.py",
        '    found = parity.check_floats(session, inputs, reference, cases, batches, precision="fp32 encode")\n',
        "    found = FloatParity(atol=1.0, max_abs=0.5)\n",
        PROVE,
    ),
    Mutation(
        "encoder left out of fp16",
        "export/proof/prove.py",
        "    if expected.posterior is not None:\n        encoder = NodeByNode",
        "    if False:\n        encoder = NodeByNode",
        HALF_GATE,
    ),
    # A check skipped.
    Mutation(
        "noise not checked",
        "export/proof/prove.py",
        "    parity.check_noise(open_graph(graphs.noise), cases, latents)\n",
        "",
        PROVE,
    ),
    Mutation(
        "network's batches not checked",
        "export/proof/prove.py",
        'parity.check_batch_invariance(network, inputs, alone, cases, batches, what="the network")',
        "pass",
        PIPELINE,
    ),
    Mutation(
        "files' batches not checked",
        "export/proof/prove.py",
        'parity.check_batch_invariance(sampler, sample, alone, cases, batches, what=f"{file_name}: sample")',
        "pass",
        PROVE,
    ),
    Mutation(
        "decode not checked",
        "export/proof/prove.py",
        "    _check_decode(source, graphs, file_name, cases, batches, images, open_graph)\n    return images",
        "    return images",
        PROVE,
    ),
    Mutation(
        "blank images not seen",
        "export/proof/prove.py",
        "if len(expected) > 1 and (expected == expected[0]).all():",
        "if False:",
        PROVE,
    ),
    Mutation(
        "half verdict ignored", "export/proof/prove.py", "        if verdict.failures:\n", "        if False:\n", MIXED
    ),
    Mutation(
        "NaN difference passes",
        "export/proof/parity.py",
        "if not by_case[row] <= reference.atol:",
        "if by_case[row] > reference.atol:",
        f"{UNIT}/proof/test_parity.py",
    ),
    Mutation(
        "one slot alone is looked at",
        "export/proof/parity.py",
        "places = [(batch, start) for batch in batches for start in range(num_rows)]",
        "places = [(batch, 0) for batch in batches]",
        f"{UNIT}/proof/test_parity.py",
    ),
    Mutation(
        "the largest batch alone is looked at",
        "export/proof/parity.py",
        "for batch in batches for start in",
        "for batch in batches[-1:] for start in",
        f"{UNIT}/proof/test_parity.py",
    ),
    Mutation(
        "an fp16 graph computed in float32",
        "export/proof/half.py",
        "torch.from_numpy(np.ascontiguousarray(array)).half().float().numpy()",
        "np.ascontiguousarray(array)",
        f"{UNIT}/proof/test_half.py",
    ),
    Mutation(
        "infinite values not counted",
        "export/proof/half_gate.py",
        "    if activations.num_nonfinite:\n        return",
        "    if False:\n        return",
        HALF_GATE,
    ),
    Mutation(
        "the corners left out of the half cases",
        "export/proof/cases.py",
        "np.array([0.0, truncation_max], np.float32)",
        "np.array([1.0, 1.0], np.float32)",
        HALF_GATE,
    ),
    Mutation(
        "pinning of the batch left out",
        "export/pipeline.py",
        "        return prove(source, graphs, options, pinned_batch=pinned)",
        "        return prove(source, graphs, options)",
        BATCHES,
    ),
    # Guards.
    Mutation("frozen batch not seen", "export/graph/guards.py", "if sizes and sizes[0] > 1:", "if False:", GUARDS),
    Mutation(
        "training mode not seen",
        "export/graph/guards.py",
        "        if _trains(node, constants):",
        "        if False:",
        GUARDS,
    ),
    Mutation("random operators not seen", "export/graph/guards.py", "if node.op_type in _RANDOM:", "if False:", GUARDS),
    Mutation(
        "guards not called",
        "export/graph/compose.py",
        "    check_guards(model)\n",
        "",
        f"{UNIT}/graph/test_compose.py",
    ),
    Mutation(
        "device not asked",
        "export/pipeline.py",
        "        check_on_gpu(file.path)",
        "        pass",
        PIPELINE,
    ),
    # What was said of a network.
    Mutation("NaN weights not seen", "export/adapters/check.py", "int(torch.isnan(tensor).sum())", "0", CHECK),
    Mutation(
        "network called once",
        "export/adapters/check.py",
        '    _check_same("network", images, call_network("network", source.generator, inputs))\n',
        "",
        CHECK,
    ),
    Mutation(
        "range not looked at",
        "export/adapters/check.py",
        "if not outside.any():",
        "if True:",
        CHECK,
    ),
    Mutation(
        "range not looked at: seeds of the fp32 proof",
        "export/proof/prove.py",
        "    check_images(floats, source, cases.describe)\n",
        "",
        REFUSED,
    ),
    Mutation(
        "range not looked at: seeds of the fp16 proof",
        "export/proof/prove.py",
        "    check_images(floats[0], source, cases.describe)\n",
        "",
        REFUSED,
    ),
    # Publishing.
    Mutation("file not synced", FILES, f"{SYNC}\n\ndef copy_synced", "\n\ndef copy_synced", PUBLISH),
    Mutation(
        "copy of a graph not synced",
        FILES,
        f"{SYNC}\n\ndef write_atomic",
        "\n\ndef write_atomic",
        PUBLISH,
    ),
    Mutation("folder not synced", FILES, "        os.fsync(handle)", "        pass", PUBLISH),
    Mutation(
        "no second look under the lock",
        "export/pipeline.py",
        "    with locked(repository):\n        check_new_version(repository, source, options)\n",
        "    with locked(repository):\n",
        PIPELINE,
    ),
    Mutation(
        "lock not taken",
        "export/publish/repository.py",
        "fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
        PUBLISH,
    ),
    Mutation(
        "sampler published before its companions",
        "export/publish/publish.py",
        "        for triton_name in models:\n            target",
        "        for triton_name in reversed(list(models)):\n            target",
        PUBLISH,
    ),
    Mutation(
        "staging of a sibling deleted",
        "export/publish/repository.py",
        'if "-" not in leftover.name.removeprefix(prefix):',
        "if True:",
        PUBLISH,
    ),
    Mutation(
        "nothing taken back",
        "export/publish/publish.py",
        "shutil.rmtree(folder, ignore_errors=True)",
        "pass",
        PUBLISH,
    ),
)


def main(arguments: list[str]) -> int:
    chosen = [m for m in MUTATIONS if not arguments or any(part in m.name for part in arguments)]
    survivors = []
    with tempfile.TemporaryDirectory(prefix="ganvas-mutations-") as folder:
        tree = Path(folder) / "tree"
        _copy_tree(tree)
        for mutation in chosen:
            start = time.monotonic()
            failed = _first_failure(tree, mutation)
            if failed is None:
                survivors.append(mutation)
            print(f"{mutation.name:42} {failed or 'SURVIVED'}  ({time.monotonic() - start:.0f} s)", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} caught")
    return 1 if survivors else 0


def _copy_tree(tree: Path) -> None:
    """What git tracks and what it does not ignore, as it is now."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)


def _first_failure(tree: Path, mutation: Mutation) -> str | None:
    """The test that fails with the mutation; None if all pass.

    Raises:
        ValueError: the place to change is not there, or pytest could not run.
    """
    path = tree / mutation.file
    before = path.read_text(encoding="utf-8")
    if before.count(mutation.old) != 1:
        raise ValueError(f"{mutation.name}: {mutation.old!r} stands {before.count(mutation.old)} times in {path}.")
    path.write_text(before.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(tree), str(tree / "clients/python/src")]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutation.tests.split()]
        ran = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    finally:
        path.write_text(before, encoding="utf-8")
    if ran.returncode == 0:
        return None
    # A fixture that the mutation breaks is an error of the first test that asks for it.
    failed = [line for line in ran.stdout.splitlines() if line.startswith(("FAILED ", "ERROR ")) and "::" in line]
    if ran.returncode != 1 or not failed:
        raise ValueError(f"{mutation.name}: pytest did not run: {ran.stdout[-2000:]}{ran.stderr[-1000:]}")
    return failed[0].split(" ", 1)[1].split(" - ")[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

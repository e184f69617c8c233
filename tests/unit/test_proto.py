"""The generated stubs are those of the .proto."""

import subprocess
import sys
from pathlib import Path

import pytest
from tritonclient.grpc import service_pb2 as kserve

from ganvas.kserve import v2_pb2

ROOT = Path(__file__).parents[2]
STUBS = ROOT / "clients" / "python" / "src"


@pytest.mark.parametrize(
    ("proto", "kinds"),
    [
        ("ganvas/v1/sampler.proto", ("python_out", "pyi_out", "grpc_python_out")),
        ("ganvas/kserve/v2.proto", ("python_out", "pyi_out")),
    ],
)
def test_stubs_are_generated_from_the_proto(tmp_path: Path, proto: str, kinds: tuple[str, ...]) -> None:
    outputs = [f"--{kind}={tmp_path}" for kind in kinds]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", *outputs, proto]
    subprocess.run(command, check=True, cwd=ROOT / "proto")
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.py*"))
    assert len(made) == len(kinds)
    for path in made:
        if (tmp_path / path).read_text() != (STUBS / path).read_text():
            pytest.fail(f"{path} is stale. Generate it again: see CONTRIBUTING.md.")


def test_kserve_messages_are_those_of_the_protocol_on_the_wire() -> None:
    tensor = kserve.ModelInferRequest.InferInputTensor(name="seed", datatype="UINT64", shape=[2, 1])
    theirs = kserve.ModelInferRequest(
        model_name="m",
        model_version="3",
        inputs=[tensor],
        outputs=[kserve.ModelInferRequest.InferRequestedOutputTensor(name="image")],
        raw_input_contents=[b"12345678"],
    )
    ours = v2_pb2.ModelInferRequest.FromString(theirs.SerializeToString())
    assert ours.SerializeToString() == theirs.SerializeToString()
    assert (ours.model_name, ours.model_version, ours.inputs[0].name, list(ours.inputs[0].shape)) == (
        *("m", "3", "seed"),
        [2, 1],
    )
    reply = kserve.ModelInferResponse(model_name="m", model_version="3", raw_output_contents=[b"1"])
    reply.outputs.add(name="image", datatype="UINT8", shape=[1, 1])
    read = v2_pb2.ModelInferResponse.FromString(reply.SerializeToString())
    assert (read.model_version, read.outputs[0].name, read.raw_output_contents[0]) == ("3", "image", b"1")

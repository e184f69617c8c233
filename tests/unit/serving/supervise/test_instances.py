"""One instance for every core."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from serving.supervise.instances import num_cores, with_instances


def config(threads: str = "1", instances: str = "auto", kind: str = "KIND_CPU") -> str:
    parameters = "".join(
        f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'
        for key, value in (("intra_op_thread_count", threads), ("instances", instances))
    )
    return f'name: "gan"\ninstance_group {{ count: 1 kind: {kind} }}\n{parameters}'


@pytest.mark.parametrize(("threads", "cores", "count"), [("1", 8, 8), ("3", 8, 2), ("16", 8, 1), ("0", 4, 4)])
def test_auto_is_as_many_as_fit(threads: str, cores: int, count: int) -> None:
    made = text_format.Parse(with_instances(config(threads), cores), triton.ModelConfig())
    assert [group.count for group in made.instance_group] == [count]
    assert "instances" not in made.parameters
    assert made.parameters["intra_op_thread_count"].string_value == threads


@pytest.mark.parametrize("text", [config(instances="other"), 'name: "auto"', 'no "auto" config {', ""])
def test_any_other_text_stays(text: str) -> None:
    assert with_instances(text, 8) == text


def test_instances_on_a_gpu_stay() -> None:
    made = text_format.Parse(with_instances(config(kind="KIND_GPU"), 8), triton.ModelConfig())
    assert [group.count for group in made.instance_group] == [1]


def test_cores_are_counted_once_and_within_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3, 4, 5})
    for cpu in range(6):
        folder = tmp_path / f"cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 3},{cpu % 3 + 3}\n")
    quota = tmp_path / "cpu.max"
    assert num_cores(tmp_path, quota) == 3
    for text, cores in (("max 100000", 3), ("250000 100000", 2), ("50000 100000", 1), ("900000 100000", 3)):
        quota.write_text(f"{text}\n")
        assert num_cores(tmp_path, quota) == cores
    assert num_cores(tmp_path / "none", tmp_path / "none") == 6

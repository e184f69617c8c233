from __future__ import annotations

from serving.triton.http_api import ModelFailure, TritonHttp, failures_of

READY = {"name": "a", "version": "1", "state": "READY", "reason": ""}
FAILED = {
    "name": "a",
    "version": "2",
    "state": "UNAVAILABLE",
    "reason": "Internal: TritonModelException: there is no\n file x\n\nAt:\n  /b/model.py(9): initialize\n",
}


def test_failures_are_the_versions_that_are_not_ready_in_one_line_without_a_stack() -> None:
    assert failures_of([READY, FAILED], ("a",)) == (ModelFailure(name="a", version=2, reason="there is no file x"),)
    assert str(failures_of([FAILED], ("a",))[0]) == "a version 2: there is no file x"


def test_failures_name_a_model_that_is_not_there() -> None:
    failures = failures_of([READY, {"name": "b"}], ("a", "b", "c"))
    assert [str(failure) for failure in failures] == [
        "b: it is not in the model repository",
        "c: it is not in the model repository",
    ]


def test_failures_leave_out_models_that_were_not_asked_for() -> None:
    assert failures_of([READY, FAILED], ()) == ()


def test_server_that_does_not_answer_is_neither_live_nor_dead() -> None:
    assert TritonHttp("127.0.0.1", 1).is_live() is None

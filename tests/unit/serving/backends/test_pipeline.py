from __future__ import annotations

import threading
import time

from serving.backends.onnxruntime.ganvas_pipeline import Pipeline


def assert_waited(event: threading.Event) -> None:
    assert event.wait(30)


def test_pipeline_answers_every_job_in_order() -> None:
    answers: list[tuple[int, int]] = []
    pipeline: Pipeline[int, int] = Pipeline(lambda job: job * job, lambda job, result: answers.append((job, result)))
    for job in range(50):
        pipeline.put(job)
    pipeline.close()
    assert answers == [(job, job * job) for job in range(50)]


def test_pipeline_computes_the_next_job_while_it_answers_the_last() -> None:
    computed, may_answer = threading.Semaphore(0), threading.Event()

    def compute(job: int) -> int:
        computed.release()
        return job

    pipeline: Pipeline[int, int] = Pipeline(compute, lambda job, result: assert_waited(may_answer))
    pipeline.put(0)
    pipeline.put(1)
    assert computed.acquire()
    assert computed.acquire()  # the second was computed although the first is not answered
    may_answer.set()
    pipeline.close()


def test_pipeline_computes_one_job_at_a_time() -> None:
    running, most = [0], [0]

    def compute(job: int) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.001)  # another computing thread would run now
        running[0] -= 1

    pipeline: Pipeline[int, None] = Pipeline(compute, lambda job, result: None)
    for job in range(100):
        pipeline.put(job)
    pipeline.close()
    assert most == [1]


def test_pipeline_takes_no_second_job_before_the_first_is_computed() -> None:
    may_compute, second_taken = threading.Event(), threading.Event()
    pipeline: Pipeline[int, bool] = Pipeline(lambda job: may_compute.wait(), lambda job, result: None)
    pipeline.put(0)
    assert not pipeline.idle

    def put_second() -> None:
        pipeline.put(1)
        second_taken.set()

    thread = threading.Thread(target=put_second)
    thread.start()
    assert not second_taken.wait(0.05)
    may_compute.set()
    thread.join()
    pipeline.wait_idle()
    assert pipeline.idle
    pipeline.close()

"""The queue in front of a Triton model, on a clock of the test's own and a Triton that is a list of batches."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.service.admission.lanes import Ask, Lane, Work
from serving.service.errors import BusyError, DeadlineError

IMAGE_S = 0.01
BATCH = 8


@dataclass
class Triton:
    """Computes one batch after another, IMAGE_S an image."""

    now_s: float = 100.0
    batches: deque[tuple[Work, int, float]] = field(default_factory=deque)
    order: list[tuple[Work, int, int]] = field(default_factory=list)
    failed: dict[Work, DeadlineError] = field(default_factory=dict)
    done_s: dict[Work, float] = field(default_factory=dict)
    most_in_flight: int = 0

    def __post_init__(self) -> None:
        self.lane = Lane(instances=1, batch_size=BATCH, image_s=IMAGE_S, max_wait_s=5.0, clock=lambda: self.now_s)

    def call(
        self, caller: str, count: int, *, bulk: bool = False, stream: bool = False, within_s: float | None = None
    ) -> Work:
        """Admit a call; a unary one asks for all of its batches, a stream for its first."""
        at_s = None if within_s is None else self.now_s + within_s
        work = self.lane.admit(caller, count, bulk=bulk, stream=stream, at_s=at_s)
        for _ in range(1 if stream else -(-count // BATCH)):
            self.ask(work)
        return work

    def ask(self, work: Work, again: tuple[int, int] | None = None) -> Ask:
        def answer(images: tuple[int, int] | Exception) -> None:
            if isinstance(images, Exception):
                assert isinstance(images, DeadlineError)
                self.failed[work] = images
            elif images[0] < images[1]:
                self.order.append((work, *images))
                self.batches.append((work, images[1] - images[0], self.now_s))
                self.most_in_flight = max(self.most_in_flight, self.lane.in_flight)

        most = again[1] - again[0] if again else BATCH
        ask = Ask(most=most, answer=answer, again=again)
        self.lane.ask(work, ask)
        return ask

    def step(self, *, slowness: float = 1.0) -> None:
        """Finish the oldest batch; a stream asks for its next one, a unary call that got a short batch for the rest."""
        work, count, sent_s = self.batches.popleft()
        self.now_s += count * IMAGE_S * slowness
        self.lane.finish(work, count, sent_s=sent_s)
        if work.taken < work.count and not work.asks:
            self.ask(work)
        elif work.taken == work.count and all(entry[0] is not work for entry in self.batches):
            self.lane.close(work)
            self.done_s[work] = self.now_s

    def run(self, until: Work | None = None) -> None:
        while self.batches and (until is None or until not in self.done_s):
            self.step()


def test_at_most_a_batch_for_each_instance_and_one_more_are_in_triton() -> None:
    triton = Triton()
    for number in range(20):
        triton.call(f"caller {number}", 20)
    triton.run()
    assert triton.most_in_flight == 2 * BATCH
    assert triton.lane.in_flight == triton.lane.waiting == 0


def test_oldest_call_of_equals_is_done_first_instead_of_all_at_the_end() -> None:
    triton = Triton()
    works = [triton.call(f"caller {number}", 24, bulk=True) for number in range(5)]
    triton.run()
    done = [triton.done_s[work] for work in works]
    assert done == sorted(done)
    assert done[0] == pytest.approx(100 + 24 * IMAGE_S)


def test_call_that_cannot_meet_its_deadline_is_refused_with_a_time_to_come_back() -> None:
    triton = Triton()
    for number in range(5):
        triton.call(f"caller {number}", 24)
    with pytest.raises(BusyError, match="too long for the call's deadline") as refused:
        triton.call("late", 8, within_s=0.5)
    assert 500 < refused.value.retry_after_ms < 1200
    triton.call("patient", 8, within_s=5.0)


@pytest.mark.parametrize(
    ("num_queued", "within_s", "binding_ms"),
    [(8, 0.1, 40), (24, 0.7, 50), (64, 0.5, 100)],
    ids=["queue", "hint", "cap"],
)
def test_refusal_holds_no_longer_than_half_of_the_queue_takes(
    num_queued: int, within_s: float, binding_ms: int
) -> None:
    triton = Triton()
    triton.call("early", num_queued)
    with pytest.raises(BusyError) as refused:
        triton.call("late", 8, within_s=within_s)
    assert refused.value.binding_ms == binding_ms <= refused.value.retry_after_ms


@pytest.mark.parametrize(("num_queued", "retry_ms"), [(16, 50), (56, 70), (200, 100)])
def test_refusal_at_the_edge_is_asked_again_when_the_queue_may_be_shorter(num_queued: int, retry_ms: int) -> None:
    triton = Triton()
    triton.call("early", num_queued)
    edge_s = (num_queued + 8) * IMAGE_S / 0.4
    with pytest.raises(BusyError) as refused:
        triton.call("late", 8, within_s=edge_s - 0.001)
    assert refused.value.retry_after_ms == retry_ms
    triton.call("late", 8, within_s=edge_s + 0.001)


def test_call_that_would_wait_longer_than_the_bound_is_refused() -> None:
    triton = Triton()
    for number in range(20):
        triton.call(f"caller {number}", 24)
    triton.call("last", 24)
    with pytest.raises(BusyError, match="which is over 5 s"):
        triton.call("late", 24)


def test_call_that_finds_the_lane_empty_is_let_in_whatever_was_measured() -> None:
    triton = Triton()
    slow = triton.call("a", 8)
    triton.step(slowness=1000)
    assert slow in triton.done_s
    triton.call("a", 8, within_s=0.01)


def test_stall_of_one_batch_does_not_pass_for_the_speed_of_the_model() -> None:
    triton = Triton()
    triton.call("a", 8)
    triton.step(slowness=1000)
    assert triton.lane.image_s < 10 * IMAGE_S


def test_speed_is_measured() -> None:
    triton = Triton()
    for _ in range(40):
        triton.call("a", 16)
        triton.step(slowness=3)
        triton.step(slowness=3)
    assert triton.lane.image_s == pytest.approx(3 * IMAGE_S, rel=0.05)


def test_call_that_lost_its_time_while_it_waited_is_ended_before_it_costs_anything() -> None:
    triton = Triton()
    triton.call("a", 16)
    hopeless = triton.call("b", 16, within_s=0.9)
    triton.step(slowness=9)
    triton.run()
    assert hopeless in triton.failed
    assert not any(work is hopeless for work, _, _ in triton.order)


def test_interactive_call_goes_before_bulk_work_that_was_there_first() -> None:
    triton = Triton()
    triton.call("bulk", 10_000, bulk=True, stream=True)
    interactive = triton.call("person", 1)
    triton.run(until=interactive)
    assert triton.done_s[interactive] - 100 <= 2 * BATCH * IMAGE_S


def test_bulk_batches_are_short_while_interactive_calls_come() -> None:
    triton = Triton()
    triton.call("person", 1)
    triton.step()
    bulk = triton.call("bulk", 1000, bulk=True, stream=True)
    for _ in range(10):
        triton.step()
    sizes = [stop - start for work, start, stop in triton.order if work is bulk]
    assert max(sizes) <= 2
    triton.now_s += 10.0
    for _ in range(5):
        triton.step()
    assert triton.order[-1][2] - triton.order[-1][1] == BATCH


def test_interactive_call_waits_for_a_short_bulk_batch_and_a_half() -> None:
    triton = Triton()
    triton.call("person", 1)
    triton.step()
    bulk = triton.call("bulk", 1000, bulk=True)
    in_flight = set()
    for _ in range(20):
        in_flight.add(triton.lane.in_flight)
        triton.step()
    sizes = {stop - start for work, start, stop in triton.order if work is bulk}
    assert (sizes, max(in_flight)) == ({1, 2}, 3)
    begin_s = triton.now_s
    person = triton.call("person", 1)
    triton.run(until=person)
    assert triton.done_s[person] - begin_s <= 4 * IMAGE_S + 1e-9


def test_with_several_instances_no_bulk_batch_waits_in_triton_while_interactive_calls_come() -> None:
    lane = Lane(instances=2, batch_size=BATCH, image_s=IMAGE_S, max_wait_s=60.0, clock=lambda: 100.0)
    person = lane.admit("person", 1, bulk=False, stream=False, at_s=None)
    bulk = lane.admit("bulk", 1000, bulk=True, stream=True, at_s=None)
    sent: list[tuple[int, int]] = []
    for _ in range(4):
        lane.ask(bulk, Ask(most=BATCH, answer=sent.append))  # type: ignore[arg-type]
    assert [stop - start for start, stop in sent] == [2, 2]
    lane.ask(person, Ask(most=1, answer=sent.append))  # type: ignore[arg-type]
    assert sent[-1] == (0, 1)  # at once, and nothing in Triton that it could be put behind
    lane.finish(bulk, 2, sent_s=None)
    assert [stop - start for start, stop in sent] == [2, 2, 1, 2]


def test_bulk_work_gets_its_share_beside_interactive_work_without_end() -> None:
    triton = Triton()
    bulk = triton.call("bulk", 10_000, bulk=True, stream=True)
    for _ in range(400):
        while triton.lane.waiting < 4 * BATCH:
            triton.call("people", BATCH)
        triton.step()
    sent = Counter(work is bulk for work, start, stop in triton.order for _ in range(start, stop))
    assert 0.15 < sent[True] / sent.total() < 0.35


def test_caller_with_much_work_does_not_hold_up_the_others() -> None:
    triton = Triton()
    many = [triton.call("greedy", BATCH) for _ in range(30)]
    one = triton.call("modest", BATCH)
    triton.run(until=one)
    assert sum(work in triton.done_s for work in many) <= 3


def test_streams_share_alike() -> None:
    triton = Triton()
    streams = [triton.call(name, 10_000, bulk=True, stream=True) for name in "abc"]
    for _ in range(90):
        triton.step()
    taken = [stream.taken for stream in streams]
    assert max(taken) - min(taken) <= 2 * BATCH


def test_stream_that_does_not_read_takes_no_room() -> None:
    triton = Triton()
    for number in range(500):
        work = triton.lane.admit(f"reader {number}", 10_000, bulk=True, stream=True, at_s=None)
        assert not work.asks
    assert triton.lane.waiting == 0
    done = triton.call("other", 8)
    triton.run(until=done)
    assert triton.done_s[done] == pytest.approx(100 + 8 * IMAGE_S)


def test_lost_batch_is_sent_again_and_before_the_rest() -> None:
    triton = Triton()
    work = triton.call("a", 40)
    lost, count, _ = triton.batches.popleft()
    triton.ask(lost, again=(0, count))
    triton.lane.finish(lost, count, sent_s=None)
    triton.run()
    assert [(start, stop) for _, start, stop in triton.order[:3]] == [(0, 8), (8, 16), (0, 8)]
    assert work in triton.done_s


def test_paused_lane_sends_nothing_until_it_is_resumed() -> None:
    triton = Triton()
    triton.lane.pause()
    work = triton.call("a", 8)
    assert not triton.batches
    triton.lane.resume()
    triton.run()
    assert work in triton.done_s


def test_withdrawn_ask_is_not_answered() -> None:
    triton = Triton()
    triton.lane.pause()
    work = triton.lane.admit("a", 100, bulk=True, stream=True, at_s=None)
    ask = triton.ask(work)
    triton.lane.withdraw(work, ask)
    triton.lane.close(work)
    triton.lane.resume()
    assert not triton.batches
    assert triton.lane.waiting == 0


CALLS = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.integers(1, 40),
        st.booleans(),
        st.booleans(),
        st.one_of(st.none(), st.floats(0.05, 10.0)),
        st.integers(0, 4),
    ),
    max_size=60,
)


@given(CALLS)
def test_everything_let_in_is_done_once_within_the_bounds(
    calls: list[tuple[str, int, bool, bool, float | None, int]],
) -> None:
    triton = Triton()
    admitted, retries_ms = [], [50]
    for caller, count, bulk, stream, within_s, steps in calls:
        try:
            admitted.append(
                triton.call(caller, count, bulk=bulk or stream or count > BATCH, stream=stream, within_s=within_s)
            )
        except BusyError as error:
            retries_ms.append(error.retry_after_ms)
        for _ in range(steps):
            if triton.batches:
                triton.step()
    triton.run()
    assert min(retries_ms) >= 50
    assert max(retries_ms) <= 10_000
    assert triton.most_in_flight <= 2 * BATCH
    assert triton.lane.in_flight == 0
    for work in admitted:
        images = sorted(image for one, start, stop in triton.order if one is work for image in range(start, stop))
        if work not in triton.failed:
            assert images == list(range(work.count))
            assert work in triton.done_s
    assert triton.lane.waiting == sum(work.backlog for work in triton.failed)


def test_calls_that_finish_at_the_same_moment_are_measured_as_the_one_request_they_were() -> None:
    triton = Triton()
    for _ in range(50):
        works = [triton.call(f"caller {number}", 1) for number in range(BATCH)]
        triton.now_s += BATCH * IMAGE_S
        for work in works:
            _, count, sent_s = triton.batches.popleft()
            triton.lane.finish(work, count, sent_s=sent_s)
            triton.lane.close(work)
    assert triton.lane.image_s == pytest.approx(IMAGE_S, rel=0.01)

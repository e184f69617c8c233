from __future__ import annotations

from collections import Counter

import pytest

from clients.soak.fuzz.cases import FAMILIES, Case, Family, Rpc, is_grpcs_own, is_proper, make_case
from clients.soak.fuzz.good import good_cases
from clients.soak.fuzz.http import HttpRequest, is_closed

ALL = tuple(FAMILIES)


def rpc(family: str = "sampler", *, decodable: bool = True, routed: bool = True) -> Case:
    request = Rpc(method="/a/b", payload=b"", streamed=False, decodable=decodable, routed=routed)
    return Case(number=0, family=family, what="", request=request)  # type: ignore[arg-type]


def http(path: str, method: str = "POST", family: Family = "http") -> Case:
    return Case(number=0, family=family, what="", request=HttpRequest(method=method, path=path))


def test_case_is_the_same_for_the_same_number() -> None:
    first, again = ([make_case(4, number, ALL) for number in range(300)] for _ in range(2))
    assert first == again
    assert first != [make_case(5, number, ALL) for number in range(300)]


def test_good_requests_are_of_every_kind_and_right() -> None:
    cases = good_cases()
    assert {case.family for case in cases} == set(ALL) - {"raw"}
    rpcs = [case.request for case in cases if isinstance(case.request, Rpc)]
    assert all(request.decodable and request.copies == 1 for request in rpcs)
    methods = {request.method.rpartition("/")[2] for request in rpcs}
    assert methods == {"Sample", "SampleStream", "Walk", "Decode", "Encode", "GetModel", "ListModels", "ModelInfer"}
    assert {case.family for case in good_cases(["images", "raw"])} == {"images"}


def test_cases_are_of_every_family_and_mostly_different() -> None:
    cases = [make_case(1, number, ALL) for number in range(2000)]
    assert set(Counter(case.family for case in cases)) == set(ALL)
    assert len({repr(case.request) for case in cases}) > 1500
    rpcs = [case.request for case in cases if isinstance(case.request, Rpc)]
    assert 0.3 < sum(request.decodable for request in rpcs) / len(rpcs) < 0.9
    methods = {request.method for request in rpcs}
    assert {"/ganvas.v1.Sampler/Walk", "/grpc.health.v1.Health/Watch"} <= methods
    routed = {request.method.rpartition("/")[2]: request.routed for request in rpcs}
    assert not routed["RepositoryModelLoad"]
    assert not routed["ModelStreamInfer"]
    assert routed["ModelInfer"]


@pytest.mark.parametrize(
    ("case", "answer", "proper"),
    [
        (rpc(), "INVALID_ARGUMENT", True),
        (rpc(), "UNKNOWN", False),
        (rpc(), "UNAVAILABLE", False),
        (rpc(), "hang", False),
        (rpc(decodable=False), "INTERNAL", False),
        (rpc("kserve", decodable=False), "INTERNAL", True),
        (rpc("kserve"), "INTERNAL", False),
        (rpc("kserve", routed=False), "OK", False),
        (rpc("kserve", routed=False), "PERMISSION_DENIED", True),
        (http("/v2/models/tiny-gan/infer"), "400", True),
        (http("/v2/models/tiny-gan/infer"), "500", False),
        (http("/v2/models/tiny-gan/infer"), "closed", False),
        (http("/v2/models/tiny-gan/versions/1/infer"), "200", True),
        (http("/v2/repository/index"), "200", False),
        (http("/v2/repository/index"), "404", True),
        (http("/ganvas.v1.Sampler/Sample", family="web"), "INVALID_ARGUMENT", True),
        (http("/ganvas.v1.Sampler/Sample", family="web"), "UNKNOWN", False),
        (http("/ganvas.v1.Sampler/Sample", family="web"), "no grpc-status", False),
        (http("/ganvas.v1.Sampler/Nothing", family="web"), "404", True),
        (Case(number=0, family="raw", what="", request=b"x"), "closed", True),
        (Case(number=0, family="raw", what="", request=b"x"), "503", False),
    ],
)
def test_answers_are_proper_or_not(case: Case, answer: str, proper: bool) -> None:
    assert is_proper(case, answer) == proper


@pytest.mark.parametrize("path", ["/", "/v2/", "/v2/models/a/unload", "/v2//models/a", "/v2/models/a/b/infer"])
def test_everything_but_the_listed_endpoints_is_closed(path: str) -> None:
    assert is_closed(HttpRequest(method="GET", path=path))


def test_internal_is_grpcs_own_only_where_its_library_cannot_read_the_call() -> None:
    unreadable, readable = (rpc("kserve", decodable=decodable) for decodable in (False, True))
    assert is_grpcs_own(unreadable, "INTERNAL")
    assert not is_grpcs_own(unreadable, "UNKNOWN")
    assert not is_grpcs_own(readable, "INTERNAL")
    assert not is_grpcs_own(rpc(decodable=False), "INTERNAL")  # the service reads its messages itself

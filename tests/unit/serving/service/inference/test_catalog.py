"""A request finds the version that it names, by number or by digest."""

from __future__ import annotations

import pytest

from serving.service.errors import DigestError, NotFoundError, UnavailableError
from serving.service.inference.catalog import Catalog
from tests.support.certificates import served_model

CATALOG = Catalog([served_model("pets", version=2), served_model("pets", version=10)])


def test_empty_version_is_the_newest_by_number() -> None:
    assert CATALOG.find("pets", "").version == 10
    assert CATALOG.find("pets", "2").version == 2
    assert CATALOG.versions("pets") == [2, 10]


def test_digest_picks_the_newest_version_that_has_it() -> None:
    catalog = Catalog(served_model(version=version, digest=letter * 64) for version, letter in enumerate("abbc", 1))
    assert catalog.find("pets", "", "b" * 64).version == 3
    assert catalog.find("pets", "2", "b" * 64).version == 2
    with pytest.raises(DigestError, match=r"digest bbb.* 'pets'; there is: aaaaaaaaaaaaaaaa… in version 1\."):
        catalog.find("pets", "1", "b" * 64)
    with pytest.raises(DigestError, match=r"there is: ccc.* in version 4, bbb.* 3, bbb.* 2, aaa.* in version 1\."):
        catalog.find("pets", "", "d" * 64)


def test_unknown_version_lists_every_version() -> None:
    with pytest.raises(NotFoundError, match=r"no version 3; there is: 2, 10"):
        CATALOG.find("pets", "3")


def test_default_that_is_not_ready_is_replaced_by_no_other_version() -> None:
    catalog = Catalog([served_model("pets", version=2)], defaults={"pets": 1, "cats": 4})
    for name, version in (("pets", ""), ("pets", "1"), ("cats", "")):
        with pytest.raises(UnavailableError, match=r"version [14] is being proven\. Try again later\."):
            catalog.find(name, version)
    assert catalog.find("pets", "2").version == 2
    with pytest.raises(NotFoundError, match=r"no version 3; there is: 2"):
        catalog.find("pets", "3")
    assert [(model.name, model.version, model.out) for model in catalog.describe()] == [
        ("cats", "4", "is being proven"),
        ("pets", "1", "is being proven"),
    ]

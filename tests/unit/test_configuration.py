from __future__ import annotations

from tests.support.configuration import PAGE, page


def test_page_of_the_configuration_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it again: python -m tests.support.configuration"

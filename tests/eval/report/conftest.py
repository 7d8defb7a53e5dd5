from __future__ import annotations

import pytest

from eval.report import Page, render_html
from tests.eval.report import fake_page


@pytest.fixture(scope="session")
def run_page() -> Page:
    return fake_page.run_page()


@pytest.fixture(scope="session")
def private_page() -> Page:
    return fake_page.private_page()


@pytest.fixture(scope="session")
def compare_page() -> Page:
    return fake_page.compare_page()


@pytest.fixture(scope="session")
def empty_page() -> Page:
    return fake_page.empty_page()


@pytest.fixture(scope="session")
def rendered(
    run_page: Page, private_page: Page, compare_page: Page, empty_page: Page
) -> dict[str, str]:
    """Each page as HTML; drawing the curves is what takes time."""
    return {
        "run": render_html(run_page),
        "private": render_html(private_page),
        "compare": render_html(compare_page),
        "empty": render_html(empty_page),
    }

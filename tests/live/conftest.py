"""The page of an edition, in a browser."""

import pytest
from helpers import live


@pytest.fixture(scope="session")
def out(tmp_path_factory):
    """One for all workers of this run."""
    root = tmp_path_factory.getbasetemp()
    made = (root if root.name.startswith("pytest-") else root.parent) / "live"
    made.mkdir(exist_ok=True)
    return made


@pytest.fixture(scope="session")
def shapes_page(out):
    """The folder of the edition with shapes; in it `page` and `live.html`."""
    return live.build("shapes", out)


@pytest.fixture(scope="session")
def address(shapes_page):
    """Where that folder is served: page/ is the page, what lies beside it is not its own."""
    with live.served(shapes_page) as (url, _):
        yield url


@pytest.fixture
def desk(browser, address):
    """A tab with the page in it, which may say nothing to the console."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        found = live.Desk(context.new_page(), f"{address}page/")
        yield found
        assert found.said == []

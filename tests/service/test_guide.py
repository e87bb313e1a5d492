"""The guide at `/guide`: static files, a policy for each page, and links that work behind a prefix."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from urllib.parse import urljoin

import pytest
from playwright.sync_api import Browser, expect
from starlette.applications import Starlette
from starlette.testclient import TestClient

from service import guide
from service.http.problems import HANDLED, KINDS, refuse
from tests.service.conftest import Start
from tests.support.guide import behind_prefix

SCRIPT = 'alert("hello")'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = tmp_path / "site"
    (site / "reference").mkdir(parents=True)
    (site / "index.html").write_text("<h1>Start</h1>")
    (site / "reference" / "index.html").write_text(f'<script>{SCRIPT}</script><script src="a.js"></script>')
    for name in ("a.css", "a.js", "a.svg", "a.json"):
        (site / name).write_text("{}")
    (tmp_path / "secret.txt").write_text("secret")
    return site


def application(site: Path) -> Starlette:
    return Starlette(routes=guide.routes(site), exception_handlers=dict.fromkeys(HANDLED, refuse))


@pytest.fixture
def client(site: Path) -> TestClient:
    return TestClient(application(site), follow_redirects=False)


def test_an_unbuilt_guide_is_refused_and_names_the_command_that_builds_it(tmp_path: Path) -> None:
    client = TestClient(application(tmp_path / "nothing"))

    answers = [client.get(path) for path in ("/guide", "/guide/", "/guide/reference/errors/")]

    assert {answer.status_code for answer in answers} == {404}
    assert all("`make docs` builds it" in answer.json()["detail"] for answer in answers)


def test_a_directory_shows_its_index_and_a_missing_slash_is_added(client: TestClient) -> None:
    assert client.get("/guide").headers["location"] == "guide/"
    assert client.get("/guide/reference").headers["location"] == "reference/"
    assert client.get("/guide/").text == "<h1>Start</h1>"
    assert SCRIPT in client.get("/guide/reference/").text
    assert client.get("/guide/nothing/").status_code == 404
    assert client.get("/guide/nothing").json()["type"].endswith(":not-found")
    assert client.post("/guide/").status_code == 405


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("", "text/html"),
        ("a.css", "text/css"),
        ("a.js", "text/javascript"),
        ("a.svg", "image/svg+xml"),
        ("a.json", "application/json"),
    ],
)
def test_a_file_has_its_type_and_is_sent_again_only_if_it_changed(client: TestClient, name: str, kind: str) -> None:
    first = client.get(f"/guide/{name}")
    again = client.get(f"/guide/{name}", headers={"If-None-Match": first.headers["etag"]})

    assert first.headers["content-type"].partition(";")[0] == kind
    assert (first.headers["cache-control"], first.headers["x-content-type-options"]) == ("no-cache", "nosniff")
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    ["../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "/etc/passwd", "reference/..%2f../secret.txt", "%00"],
)
def test_files_outside_the_site_are_not_served(client: TestClient, path: str) -> None:
    assert client.get(f"/guide/{path}").status_code == 404


def test_the_policy_of_a_page_allows_only_its_own_inline_scripts(client: TestClient) -> None:
    policy = client.get("/guide/reference/").headers["content-security-policy"]

    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert policy.partition("script-src ")[2] == f"'self' 'sha256-{digest}'"
    assert "sha256" not in client.get("/guide/").headers["content-security-policy"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/nothing", "not-found"), ("/price/history?limit=0", "invalid-parameter"), ("/a/b/c", "not-found")],
)
def test_a_problem_links_to_its_entry_in_the_guide(start_service: Start, path: str, kind: str) -> None:
    prefix = "https://host.example/candlecast"

    problem = start_service().get(path)

    address, _, relation = problem.headers["link"].partition("; ")
    assert problem.json()["type"].endswith(f":{kind}")
    assert urljoin(f"{prefix}{path}", address.strip("<>")) == f"{prefix}/guide/reference/errors/#{kind}"
    assert relation == 'rel="help"'


def test_every_kind_of_problem_has_an_entry_in_the_guide(built_site: Path) -> None:
    page = (built_site / "reference" / "errors" / "index.html").read_text()

    assert set(re.findall(r'<h3 id="([^"]+)"', page)) >= set(KINDS)


@pytest.mark.integration
def test_the_guide_works_behind_a_prefix_and_loads_nothing_from_elsewhere(browser: Browser, built_site: Path) -> None:
    complaints: list[str] = []
    requested: list[str] = []
    with behind_prefix(application(built_site), "/candlecast") as url:
        page = browser.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requested.append(request.url))
        page.goto(f"{url}/guide")
        expect(page).to_have_title(re.compile("Candlecast"))
        page.get_by_role("link", name="Errors", exact=True).first.click()
        expect(page.locator("#candlegaperror")).to_be_visible()
        assert page.url.startswith(f"{url}/guide/reference/errors/")
        page.wait_for_load_state("networkidle")
        page.get_by_role("button", name="Search").click()
        page.get_by_placeholder("Search").fill("backfill")
        expect(page.get_by_text(re.compile(r"^\d+ results?$"))).to_be_visible()
        page.goto(f"{url}/guide/explanation/imports")
        expect(page.locator("img[alt='Imports of candlecast']")).to_be_visible()
        widths = page.locator("article img").evaluate_all("images => images.map(image => image.naturalWidth)")
        page.close()

    assert complaints == []
    assert [address for address in requested if not address.startswith((f"{url}/guide", "data:", "blob:"))] == []
    assert min(widths) > 0

"""Hostile requests: each is refused and logged in one line, and the server lives on."""

from __future__ import annotations

import json

import pytest

from dpmo_cli.review.guard import MAX_BODY_BYTES
from tests.review.conftest import HOST, TOKEN, Client

DECIDE = "/api/decide"
JSON = {"Content-Type": "application/json"}


def hostile(
    client: Client, method: str, path: str, headers: dict[str, str], body: bytes | None = None
) -> int:
    """Make a request with exactly these headers, and see that the server lives on."""
    before = len(client.log)
    request = client.http.build_request(method, path, content=body)
    for name in ("X-Dpmo-Token", "Origin"):
        del request.headers[name]
    request.headers.update(headers)
    status = client.http.send(request).status_code
    lines = client.log[before:]
    assert len(lines) == 1
    assert lines[0].startswith(f"dpmo: {method} /")
    assert "\n" not in lines[0]
    assert lines[0].isascii()
    assert client.http.get("/api/run").status_code == 200
    assert client.get("/api/events", since=0) == {"events": []}
    return int(status)


@pytest.mark.parametrize("path", ["/", "/api/run", "/photo/train/1/0/0_0.jpg", "/page/main.js"])
@pytest.mark.parametrize(
    "host", ["evil.example:8765", "127.0.0.1:80", "127.0.0.1", "127.0.0.1:8765.evil.example", ""]
)
def test_other_hosts_are_refused(client: Client, path: str, host: str) -> None:
    assert hostile(client, "GET", path, {"Host": host}) == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"https://{HOST}"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"X-Dpmo-Token": ""},
        {"X-Dpmo-Token": "guess"},
        {"X-Dpmo-Token": TOKEN + "x"},
    ],
    ids=str,
)
def test_posts_of_other_sites_are_refused(client: Client, headers: dict[str, str]) -> None:
    body = json.dumps({**client.person(40), "verdict": "accepted"}).encode()
    usual = {"X-Dpmo-Token": TOKEN, "Origin": f"http://{HOST}", **JSON}
    assert hostile(client, "POST", DECIDE, usual | headers, body) == 403
    # The same body, posted by the page, is taken.
    assert client.http.post(DECIDE, content=body, headers=JSON).status_code == 200


def test_forms_are_refused(client: Client) -> None:
    usual = {"X-Dpmo-Token": TOKEN, "Content-Type": "text/plain"}
    assert hostile(client, "POST", DECIDE, usual, b"{}") == 415


def test_pictures_are_not_for_other_sites(client: Client) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    assert hostile(client, "GET", "/photo/train/1/0/0_0.jpg", headers) == 403
    assert hostile(client, "GET", "/api/run", headers) == 403
    # A link may lead to the page itself.
    assert client.http.get("/", headers=headers).status_code == 200
    answer = client.http.get("/photo/train/1/0/0_0.jpg")
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    [
        "/page/../app.py",
        "/page/%2e%2e/app.py",
        "/page/..%2fapp.py",
        "/page/....//app.py",
        "/page//etc/passwd",
        "/../../etc/passwd",
        "/photo/..%2f..%2ftrain/1/0/0_0.jpg",
        "/photo/train/1/0/..%2f0_0.jpg",
        "/crop/../../etc/passwd",
        "/page/%00",
        "/page/%0d%0aX-Injected:1",
    ],
)
def test_ways_out_are_refused(client: Client, path: str) -> None:
    assert hostile(client, "GET", path, {}) == 404


def test_large_bodies_are_refused(client: Client) -> None:
    usual = {"X-Dpmo-Token": TOKEN, **JSON}
    body = b'"' + b"x" * MAX_BODY_BYTES + b'"'
    assert hostile(client, "POST", DECIDE, usual, body) == 413
    # The announced length may lie.
    assert hostile(client, "POST", DECIDE, usual | {"Content-Length": "2"}, body) == 413
    assert hostile(client, "POST", DECIDE, usual | {"Content-Length": "-2"}, b"{}") == 413


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"split": "train"}', b"NaN"],
    ids=lambda body: repr(body[:10]),
)
def test_malformed_bodies_are_refused(client: Client, body: bytes) -> None:
    usual = {"X-Dpmo-Token": TOKEN, **JSON}
    assert hostile(client, "POST", DECIDE, usual, body) == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", DECIDE),
        ("POST", "/api/run"),
        ("PUT", DECIDE),
        ("DELETE", "/api/run"),
        ("OPTIONS", DECIDE),
        ("TRACE", "/"),
    ],
)
def test_other_methods_are_refused(client: Client, method: str, path: str) -> None:
    usual = {"X-Dpmo-Token": TOKEN, **JSON}
    assert hostile(client, method, path, usual) == 405


def test_what_nobody_expected_ends_one_request(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken\nin two lines")

    with monkeypatch.context() as patched:
        patched.setattr("dpmo_cli.review.desk.Desk.progress", fail)
        answer = client.http.get("/api/progress")
    assert answer.status_code == 500
    assert "broken in two lines" in answer.json()["error"]
    assert len(client.log) == 1
    assert client.http.get("/api/progress").status_code == 200

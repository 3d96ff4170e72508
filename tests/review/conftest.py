"""A small run to review, a desk on it, and a client of its server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from dpmo_cli.review.app import create_app
from dpmo_cli.review.decisions import Decisions
from dpmo_cli.review.desk import Desk
from dpmo_cli.review.run_index import open_run
from tests.review.runs import draw_run

HOST = "127.0.0.1:8765"
TOKEN = "the token of this start"


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that no test changes: two images of 21 people in two splits, and its root."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_run(folder)
    return folder


@pytest.fixture
def out(drawn: Path, tmp_path: Path) -> Path:
    """A copy of the run."""
    shutil.copytree(drawn / "out", tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def desk(out: Path) -> Iterator[Desk]:
    run, index = open_run(out)
    with Decisions(out) as decisions:
        yield Desk(run, index, decisions, "Ann")


@dataclass
class Client:
    """Requests as the page makes them, and what the server logged."""

    http: TestClient
    log: list[str] = field(default_factory=list)

    def get(self, path: str, **query: object) -> Any:
        answer = self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: object, status: int = 200) -> Any:
        answer = self.http.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def person(self, rank: int) -> dict[str, Any]:
        """The body that names the person of a rank, with what is seen of it."""
        (row,) = self.get("/api/rows", ranks=rank)["rows"]
        return {
            "split": row["split"],
            "image_id": row["image_id"],
            "point_id": row["person"]["id"],
            "expected": row["person"]["decision"],
        }


def client_of(desk: Desk) -> Client:
    log: list[str] = []
    app = create_app(desk, hosts=frozenset({HOST}), token=TOKEN, log=log.append)
    headers = {"X-Dpmo-Token": TOKEN, "Origin": f"http://{HOST}"}
    return Client(TestClient(app, base_url=f"http://{HOST}", headers=headers), log)


@pytest.fixture
def client(desk: Desk) -> Client:
    return client_of(desk)

"""Shells complete the names of objects: asked of the portal that the words, the environment or the profile
name, and in silence."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from wardgate.cli.admin import names
from wardgate.cli.main import main

PARIS, ACME = "11111111-0000-4000-8000-000000000001", "22222222-0000-4000-8000-000000000002"
OBJECTS: dict[str, list[dict[str, Any]]] = {
    "/sites": [{"id": PARIS, "name": "Paris"}, {"id": "2", "name": "Porto"}, {"id": "3", "name": "b\x1bad"}],
    f"/wardgate/sites/{PARIS}/gateways": [{"id": "4", "name": "gw-1"}],
    "/actors": [{"id": "5", "name": "Ada", "email": "ada@acme.example"}, {"id": "6", "name": "Robot"}],
    "/resources": [{"id": "7", "name": "wiki"}],
    "/wardgate/groups": [{"id": str(n), "name": f"Team {n}"} for n in range(1000, 1250)],
    "/wardgate/accounts": [{"id": ACME, "name": "Acme", "slug": "acme"}],
    f"/wardgate/accounts/{ACME}/api_clients": [{"id": "8", "name": "terraform"}],
}


class Portal:
    """A portal that lists a few objects and remembers who asked for what."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.is_stuck = threading.Event()
        self.goes_on = threading.Event()
        self.answers = 100
        portal = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                portal.asked.append((urlsplit(self.path).path, self.headers["authorization"]))
                if portal.is_stuck.is_set() or len(portal.asked) > portal.answers:
                    portal.goes_on.wait()
                    return
                path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
                first = int(query.get("page_cursor", ["0"])[0])
                end = first + int(query["limit"][0])
                next_page = str(end) if end < len(OBJECTS[path]) else None
                answer = {"data": OBJECTS[path][first:end], "metadata": {"next_page": next_page}}
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def portal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Portal]:
    portal = Portal()
    thread = threading.Thread(target=portal.server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("WARDGATE_URL", portal.url)
    monkeypatch.setenv("WARDGATE_TOKEN", "s3cret")
    monkeypatch.setattr(names, "PATIENCE_S", 15.0)
    yield portal
    portal.goes_on.set()
    portal.server.shutdown()
    portal.server.server_close()
    thread.join()


@pytest.fixture
def completed(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    def complete(*words: str) -> list[str]:
        with pytest.raises(SystemExit) as ended:
            main(["__complete", *words])
        printed = capsys.readouterr()
        assert (ended.value.code, printed.err) == (0, "")
        return [line.partition("\t")[0] for line in printed.out.splitlines()]

    return complete


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("admin", "sites", "delete", ""), ["Paris", "Porto"]),
        (("admin", "sites", "delete", "Pa"), ["Paris"]),
        (("admin", "sites", "delete", "--yes", "Po"), ["Porto"]),
        (("admin", "sites", "delete", "Paris", "Po"), []),
        (("admin", "gateways", "create", "--name", "x", "--site", ""), ["Paris", "Porto"]),
        (("admin", "gateways", "show", "--site", "Paris", ""), ["gw-1"]),
        (("admin", "gateways", "show", "--site", PARIS, ""), ["gw-1"]),
        (("admin", "gateways", "show", "--site", "Nowhere", ""), []),
        (("admin", "gateways", "show", ""), []),
        (("admin", "api-tokens", "create", "--account", "acme", "--api-client", ""), ["terraform"]),
        (("admin", "members", "add", "--group", "x", "Robot", "a"), ["ada@acme.example"]),
        (("explain", "--actor", "A"), ["Ada"]),
        (("explain", "--actor-id", "Ada", "--resource", "w"), ["wiki"]),
    ],
)
def test_names_are_offered_where_they_may_stand(
    portal: Portal, completed: Callable[..., list[str]], words: tuple[str, ...], offered: list[str]
) -> None:
    assert completed(*words) == offered


def test_names_beyond_the_first_page_of_a_list_are_offered_too(
    portal: Portal, completed: Callable[..., list[str]]
) -> None:
    assert completed("admin", "groups", "show", "Team 124") == [f"Team {n}" for n in range(1240, 1250)]
    assert len(portal.asked) == 3


def test_no_more_pages_are_read_at_a_key_press_than_the_most(
    portal: Portal, completed: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "MOST_PAGES", 2)
    assert len(completed("admin", "groups", "show", "")) == 200
    assert len(portal.asked) == 2


def test_what_came_before_the_portal_fell_silent_is_offered(
    portal: Portal, completed: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    portal.answers = 1
    monkeypatch.setattr(names, "PATIENCE_S", 2.0)
    assert len(completed("admin", "groups", "show", "Team")) == 100


def test_the_words_say_which_portal_and_with_what_token(
    portal: Portal, completed: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDGATE_URL", "http://127.0.0.1:1")
    (tmp_path / "token").write_text("other\n")
    where = ("--url", portal.url, "--token-file", str(tmp_path / "token"))
    assert completed("admin", "sites", "delete", *where, "Pa") == ["Paris"]
    assert portal.asked == [("/sites", "Bearer other")]


def test_without_a_token_nobody_is_asked(
    portal: Portal, completed: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WARDGATE_TOKEN")
    monkeypatch.setenv("WARDGATE_DATA_DIR", str(tmp_path))
    assert completed("admin", "sites", "delete", "") == []
    assert portal.asked == []


def test_options_are_offered_without_asking(portal: Portal, completed: Callable[..., list[str]]) -> None:
    assert completed("admin", "sites", "delete", "--y") == ["--yes"]
    assert portal.asked == []


def test_a_portal_that_does_not_answer_costs_a_moment_and_no_word(
    portal: Portal, completed: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    portal.is_stuck.set()
    monkeypatch.setattr(names, "PATIENCE_S", 0.2)
    assert completed("admin", "gateways", "show", "--site", "Paris", "") == []
    assert len(portal.asked) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "file:///etc", "nonsense"])
def test_a_portal_that_is_not_there_is_passed_over(
    portal: Portal, completed: Callable[..., list[str]], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDGATE_URL", url)
    assert completed("admin", "sites", "delete", "") == []
    assert portal.asked == []

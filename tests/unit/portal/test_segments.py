"""The table of first path segments and the routes of those who answer are the same."""

import re
from pathlib import Path

import pytest

from wardgate.portal.logs import ingestion
from wardgate.portal.rest import application, documentation
from wardgate.portal.segments import RESERVED_SLUGS, SEGMENTS, Part, is_program, part_of
from wardgate.portal.web import application as pages
from wardgate.wire.upgrade import PATHS


def _of(part: Part) -> set[str]:
    return {segment for segment, one in SEGMENTS.items() if one is part}


def _first(path: str) -> str:
    return path.split("/")[1]


def test_the_api_answers_exactly_its_segments() -> None:
    served = application.paths().first_segments
    assert {_first(path) for path in application.openapi()["paths"]} <= served
    assert served | documentation._SEGMENTS | {_first(ingestion.PATH)} == _of(Part.REST)


def test_control_channels_are_where_peers_look_for_them() -> None:
    assert {_first(path) for path in PATHS.values()} == _of(Part.UPGRADE)


def test_the_pages_own_no_other_word_than_those_of_the_table() -> None:
    source = Path(pages.__file__).read_text()
    words = set(re.findall(r'Route\("/([^/"{]+)', source))
    assert words
    assert words <= _of(Part.WEB)


@pytest.mark.parametrize(
    ("path", "is_upgrade", "part"),
    [
        ("/client/websocket", True, Part.UPGRADE),
        ("/client/websocket", False, Part.WEB),
        ("/nowhere", True, Part.UPGRADE),
        ("/readyz", False, Part.HEALTH),
        ("/actors/x", False, Part.REST),
        ("/acme/actors", False, Part.WEB),
        ("/", False, Part.WEB),
        ("*", False, Part.WEB),
        ("", False, Part.WEB),
    ],
)
def test_the_first_segment_decides_who_answers(path: str, is_upgrade: bool, part: Part) -> None:
    assert part_of(path, is_upgrade=is_upgrade) is part


@pytest.mark.parametrize(
    ("headers", "is_it"),
    [
        ([(b"Authorization", b"Bearer x")], True),
        ([(b"authorization", b"bearer x")], True),
        ([(b"authorization", b"Basic x")], False),
        ([(b"accept", b"application/problem+json")], True),
        ([(b"accept", b"text/html,application/json")], False),
        ([(b"accept", b"*/*")], False),
        ([], False),
    ],
)
def test_a_program_is_told_from_a_browser(headers: list[tuple[bytes, bytes]], is_it: bool) -> None:
    assert is_program(headers) is is_it
    assert part_of("/acme", is_upgrade=False, is_program=is_it) is (Part.REST if is_it else Part.WEB)
    assert part_of("/assets/x", is_upgrade=False, is_program=is_it) is Part.WEB


def test_every_segment_is_reserved() -> None:
    assert set(SEGMENTS) == RESERVED_SLUGS

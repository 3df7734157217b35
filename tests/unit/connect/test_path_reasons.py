import pytest

from wardgate.connect.path_reasons import MAX_CANDIDATE_LENGTH, MAX_CANDIDATES, CandidateBook, explain
from wardgate.datapath.events import PathSelected

HOST = "candidate:f 1 udp 2130706175 192.168.1.20 52625 typ host ufrag aaaa"
MAPPED = "candidate:f 1 udp 1694498815 203.0.113.9 {port} typ srflx raddr 0.0.0.0 rport 0 ufrag aaaa"
HOST_IPV6 = "candidate:f 1 udp 2130706175 2001:db8::20 52625 typ host ufrag aaaa"
CONE = {HOST, MAPPED.format(port=52625)}
SYMMETRIC = {HOST, MAPPED.format(port=40001), MAPPED.format(port=40002)}


def relayed(kind: str = "local_relay") -> PathSelected:
    return PathSelected("peer", kind, "192.0.2.1:50000", "203.0.113.9:52625", "relay")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("remote", "candidates", "words"),
    [
        ("203.0.113.9:52625", CONE, "at the address that its relay sees it at"),
        ("192.168.1.20:52625", CONE, "own address"),
        ("[2001:db8::20]:52625", {HOST_IPV6}, "own address"),
        ("203.0.113.9:1", CONE, "did not signal"),
    ],
)
def test_a_direct_path_is_explained_by_the_address_that_answers(
    remote: str, candidates: set[str], words: str
) -> None:
    path = PathSelected("peer", "direct", "192.0.2.1:50000", remote, None)
    told = explain(path, CandidateBook(remote=candidates))
    assert told.startswith("direct: ")
    assert words in told


@pytest.mark.parametrize(
    ("local", "remote", "words"),
    [
        (SYMMETRIC, SYMMETRIC, "NATs of both ends"),
        (SYMMETRIC, CONE, "our NAT uses a new port"),
        (CONE, SYMMETRIC, "the peer's NAT uses a new port"),
        (CONE, set(), "no direct candidate"),
        ({HOST_IPV6}, CONE, "no address family"),
        (CONE, CONE, "no direct check came through"),
    ],
)
def test_a_relayed_path_is_explained_by_the_candidates(local: set[str], remote: set[str], words: str) -> None:
    assert words in explain(relayed(), CandidateBook(local, remote))


def test_unreadable_candidates_are_no_evidence() -> None:
    assert "no direct check" in explain(relayed(), CandidateBook(CONE | {"candidate:x"}, CONE | {""}))


def test_a_peer_that_signals_without_end_is_not_remembered_without_end() -> None:
    book = CandidateBook()
    for batch in range(10):
        book.add_remote(f"candidate:{batch}-{one}" for one in range(50))
    book.add_local(["x" * (MAX_CANDIDATE_LENGTH + 1), "y"])

    assert len(book.remote) == MAX_CANDIDATES
    assert book.local == {"y"}

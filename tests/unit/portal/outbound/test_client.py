import asyncio
import ssl
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from support.https_server import Asked, Reply, https_server
from wardgate.model.addresses import IpAddress
from wardgate.portal.outbound import Failure, OutboundFailed, Question, ReachableAddresses
from wardgate.portal.outbound.client import GuardedClient

LOOPBACK = (ip_network("127.0.0.1/32"),)


class Names:
    """Resolves each name to the next of its answers; the last one stays."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers = {name.replace("_", "."): list(each) for name, each in answers.items()}
        self.asked: list[str] = []

    async def resolve(self, host: str, _port: int) -> list[IpAddress]:
        self.asked.append(host)
        answers = self._answers.get(host)
        if answers is None:
            raise OSError("no such name")
        texts = answers.pop(0) if len(answers) > 1 else answers[0]
        return [ip_address(text) for text in texts]


def client(
    names: Names,
    *,
    allowed: tuple[str, ...] = ("127.0.0.1/32",),
    ca_file: Path | None = None,
    total_s: float = 10.0,
) -> GuardedClient:
    addresses = ReachableAddresses(tuple(map(ip_network, allowed)))
    return GuardedClient(addresses, ca_file=ca_file, resolve=names.resolve, total_s=total_s)


async def failure_of(asking: GuardedClient, question: Question) -> Failure:
    with pytest.raises(OutboundFailed) as caught:
        await asking.ask(question)
    return caught.value.failure


def hello(_asked: Asked) -> Reply:
    return Reply(body=b'{"hello": 1}')


async def test_asks_the_checked_address_under_the_name(tmp_path: Path) -> None:
    names = Names(idp_test=[["127.0.0.1"], ["10.0.0.1"]])
    async with https_server(hello, tmp_path) as server:
        answer = await client(names, ca_file=tmp_path / "ca.pem").ask(
            Question(f"https://idp.test:{server.port}/a?b=c")
        )
    assert answer.json_object() == {"hello": 1}
    (asked,) = server.asked
    assert (asked.method, asked.target, asked.sni) == ("GET", "/a?b=c", "idp.test")
    assert asked.headers["host"] == f"idp.test:{server.port}"
    assert names.asked == ["idp.test"], "what was checked is what is connected to: it is not resolved again"


async def test_a_name_that_changes_its_mind_is_judged_again(tmp_path: Path) -> None:
    names = Names(idp_test=[["127.0.0.1"], ["10.0.0.1"]])
    async with https_server(hello, tmp_path) as server:
        question = Question(f"https://idp.test:{server.port}/")
        asking = client(names, ca_file=tmp_path / "ca.pem")
        await asking.ask(question)
        assert await failure_of(asking, question) is Failure.ADDRESS_REFUSED
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1", "10.0.0.1"],
        ["10.0.0.1", "127.0.0.1"],
        ["::ffff:10.0.0.1"],
        ["fe80::1"],
        ["8.8.8.8", "169.254.169.254"],
    ],
)
async def test_one_refused_address_condemns_the_name(tmp_path: Path, addresses: list[str]) -> None:
    async with https_server(hello, tmp_path) as server:
        asking = client(Names(idp_test=[addresses]), ca_file=tmp_path / "ca.pem")
        failure = await failure_of(asking, Question(f"https://idp.test:{server.port}/"))
    assert failure is Failure.ADDRESS_REFUSED
    assert server.asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "10.0.0.1"])
async def test_an_address_in_the_url_is_judged_too(host: str) -> None:
    asking = client(Names(), allowed=())
    assert await failure_of(asking, Question(f"https://{host}:1/")) is Failure.ADDRESS_REFUSED
    assert await failure_of(asking, Question(f"http://{host}:1/")) is Failure.ADDRESS_REFUSED


async def test_a_redirect_to_a_private_address_is_not_followed(tmp_path: Path) -> None:
    names = Names(idp_test=[["127.0.0.1"]], inner_test=[["10.0.0.1"]])
    for target in ("https://inner.test/", "https://169.254.169.254/latest", "http://[::1]/"):
        async with https_server(
            lambda _, to=target: Reply(302, headers={"location": to}), tmp_path
        ) as server:  # type: ignore[misc]
            asking = client(names, ca_file=tmp_path / "ca.pem")
            failure = await failure_of(asking, Question(f"https://idp.test:{server.port}/"))
        assert failure is Failure.ADDRESS_REFUSED
        assert len(server.asked) == 1


async def test_follows_a_few_redirects_and_no_more(tmp_path: Path) -> None:
    def answering(asked: Asked) -> Reply:
        left = int(asked.path.strip("/"))
        return Reply(307, headers={"location": f"/{left - 1}"}) if left else hello(asked)

    async with https_server(answering, tmp_path) as server:
        asking = client(Names(idp_test=[["127.0.0.1"]]), ca_file=tmp_path / "ca.pem")
        assert (await asking.ask(Question(f"https://idp.test:{server.port}/3"))).status == 200
        failure = await failure_of(asking, Question(f"https://idp.test:{server.port}/4"))
    assert failure is Failure.REDIRECTED


@pytest.mark.parametrize(
    "question",
    [
        lambda url: Question(url, form={"code": "c"}),
        lambda url: Question(url, headers={"authorization": "Bearer t"}),
    ],
)
async def test_credentials_are_never_carried_to_another_place(tmp_path: Path, question: object) -> None:
    async with https_server(lambda _: Reply(307, headers={"location": "/there"}), tmp_path) as server:
        asking = client(Names(idp_test=[["127.0.0.1"]]), ca_file=tmp_path / "ca.pem")
        url = f"https://idp.test:{server.port}/"
        assert await failure_of(asking, question(url)) is Failure.REDIRECTED  # type: ignore[operator]
    assert len(server.asked) == 1


async def test_posts_a_form(tmp_path: Path) -> None:
    async with https_server(hello, tmp_path) as server:
        asking = client(Names(idp_test=[["127.0.0.1"]]), ca_file=tmp_path / "ca.pem")
        await asking.ask(Question(f"https://idp.test:{server.port}/token", form={"a": "b c&d"}))
    (asked,) = server.asked
    assert (asked.method, asked.form) == ("POST", {"a": "b c&d"})
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"


async def test_http_only_where_the_operator_allows_the_network() -> None:
    names = Names(idp_test=[["127.0.0.1"]], public_test=[["8.8.8.8"]])
    async with https_server(hello, None) as server:
        answer = await client(names).ask(Question(f"http://idp.test:{server.port}/"))
    assert answer.status == 200
    assert await failure_of(client(names), Question("http://public.test/")) is Failure.SCHEME_REFUSED
    assert await failure_of(client(names), Question("ftp://idp.test/")) is Failure.SCHEME_REFUSED


async def test_the_next_address_is_tried_when_one_refuses(tmp_path: Path) -> None:
    async with https_server(hello, tmp_path) as server:
        asking = client(
            Names(idp_test=[["127.0.0.9", "127.0.0.1"]]),
            allowed=("127.0.0.0/8",),
            ca_file=tmp_path / "ca.pem",
        )
        assert (await asking.ask(Question(f"https://idp.test:{server.port}/"))).status == 200


async def test_certificates_are_checked_against_the_name_and_the_authorities(tmp_path: Path) -> None:
    names = Names(idp_test=[["127.0.0.1"]], other_test=[["127.0.0.1"]])
    async with https_server(hello, tmp_path) as server:
        trusting, strange = client(names, ca_file=tmp_path / "ca.pem"), client(names)
        other = Question(f"https://other.test:{server.port}/")
        right = Question(f"https://idp.test:{server.port}/")
        assert await failure_of(trusting, other) is Failure.CERTIFICATE_REFUSED
        assert await failure_of(strange, right) is Failure.CERTIFICATE_REFUSED
        assert server.asked == []


async def test_an_answer_is_at_most_a_mebibyte(tmp_path: Path) -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async def failure_with(reply: Reply) -> Failure:
        async with https_server(lambda _: reply, tmp_path) as server:
            asking = client(Names(idp_test=[["127.0.0.1"]]), ca_file=tmp_path / "ca.pem")
            return await failure_of(asking, Question(f"https://idp.test:{server.port}/"))

    assert await failure_with(Reply(body=b"x" * (1024 * 1024 + 1))) is Failure.TOO_LARGE
    assert (
        await failure_with(Reply(headers={"content-length": str(1 << 40)}, more=endless)) is Failure.TOO_LARGE
    )
    assert await failure_with(Reply(headers={"content-encoding": "gzip"})) is Failure.BROKEN


async def test_a_slow_answer_is_given_up(tmp_path: Path) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        for _ in range(size):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    size = 200  # ten times the time that there is
    async with https_server(
        lambda _: Reply(headers={"content-length": str(size)}, more=drip), tmp_path
    ) as server:
        asking = client(Names(idp_test=[["127.0.0.1"]]), ca_file=tmp_path / "ca.pem", total_s=0.2)
        failure = await failure_of(asking, Question(f"https://idp.test:{server.port}/"))
    assert failure is Failure.TIMED_OUT


async def test_says_what_is_wrong_with_the_host(tmp_path: Path) -> None:
    names = Names(idp_test=[["127.0.0.1"]], nobody_test=[[]])
    async with https_server(hello, tmp_path) as server:
        closed = server.port
    asking = client(names)
    assert await failure_of(asking, Question(f"https://idp.test:{closed}/")) is Failure.CONNECTION_REFUSED
    assert await failure_of(asking, Question("https://unknown.test/")) is Failure.NAME_UNKNOWN
    assert await failure_of(asking, Question("https://nobody.test/")) is Failure.NAME_UNKNOWN
    for url in ("https://", "https://a:b/", "https://u@idp.test/", "https://idp.test/\r\nx", "https://[::1"):
        assert await failure_of(asking, Question(url)) is Failure.INVALID_URL, url


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
async def test_what_is_no_json_object_is_told(tmp_path: Path, body: bytes) -> None:
    async with https_server(lambda _: Reply(body=body), tmp_path) as server:
        asking = client(Names(idp_test=[["127.0.0.1"]]), ca_file=tmp_path / "ca.pem")
        answer = await asking.ask(Question(f"https://idp.test:{server.port}/"))
    with pytest.raises(OutboundFailed) as caught:
        answer.json_object()
    assert caught.value.failure is Failure.NOT_JSON


async def test_two_names_of_one_address_share_no_connection(tmp_path: Path) -> None:
    connections = []

    def answering(asked: Asked) -> Reply:
        connections.append(asked.headers["host"])
        return Reply(headers={"connection": "keep-alive"})

    names = Names(idp_test=[["127.0.0.1"]], other_test=[["127.0.0.1"]])
    async with https_server(answering, tmp_path) as server:
        asking = client(names, ca_file=tmp_path / "ca.pem")
        await asking.ask(Question(f"https://idp.test:{server.port}/"))
        other = Question(f"https://other.test:{server.port}/")
        assert await failure_of(asking, other) is Failure.CERTIFICATE_REFUSED
    assert len(connections) == 1


async def test_resolves_by_the_system_unless_told_otherwise(tmp_path: Path) -> None:
    async with https_server(hello, tmp_path, name="localhost") as server:
        addresses = ReachableAddresses((ip_network("127.0.0.0/8"), ip_network("::1/128")))
        asking = GuardedClient(addresses, ca_file=tmp_path / "ca.pem")
        assert (await asking.ask(Question(f"https://localhost:{server.port}/"))).status == 200


def test_a_file_without_certificates_is_refused_at_the_start(tmp_path: Path) -> None:
    empty = tmp_path / "ca.pem"
    empty.write_text("nothing")
    with pytest.raises(ssl.SSLError):
        GuardedClient(ReachableAddresses(LOOPBACK), ca_file=empty)


async def test_the_server_of_these_tests_is_a_stranger_to_the_system(tmp_path: Path) -> None:
    async with https_server(hello, tmp_path) as server:
        asking = GuardedClient(ReachableAddresses(LOOPBACK))
        question = Question(f"https://127.0.0.1:{server.port}/")
        assert await failure_of(asking, question) is Failure.CERTIFICATE_REFUSED

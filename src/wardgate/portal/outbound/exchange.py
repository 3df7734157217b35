"""One HTTP exchange with one address."""

import ssl
from typing import Final
from urllib.parse import SplitResult

import httpx2

from wardgate.model.addresses import IpAddress
from wardgate.portal.outbound.messages import MAX_ANSWER_BYTES, Answer, Failure, OutboundFailed, Question

CONNECT_S: Final = 4.0
SILENCE_S: Final = 8.0


class NotConnected(OutboundFailed):
    """Nothing was sent: another address of the host may be tried."""


async def exchange(
    question: Question, target: SplitResult, address: IpAddress, context: ssl.SSLContext, *, agent: str
) -> Answer:
    """Ask `address` for `target`, whose name stands in `Host`, in SNI and in the certificate.

    Raises:
        OutboundFailed: there is no answer.
    """
    host = (target.hostname or "").rstrip(".")
    try:
        url = httpx2.URL(target.geturl())
        transport = httpx2.AsyncHTTPTransport(verify=context, trust_env=False)
        timeout = httpx2.Timeout(SILENCE_S, connect=CONNECT_S)
        async with httpx2.AsyncClient(transport=transport, timeout=timeout, trust_env=False) as client:
            request = client.build_request(
                "GET" if question.form is None else "POST",
                url.copy_with(host=str(address)),
                content=question.body,
                headers=_headers(question, url, agent),
                extensions={"sni_hostname": host},
            )
            response = await client.send(request, stream=True)
            try:
                return Answer(response.status_code, dict(response.headers.items()), await _body_of(response))
            finally:
                await response.aclose()
    except httpx2.ConnectTimeout as error:
        raise NotConnected(Failure.TIMED_OUT) from error
    except httpx2.TimeoutException as error:
        raise OutboundFailed(Failure.TIMED_OUT) from error
    except httpx2.ConnectError as error:
        if _is_about_certificate(error):
            raise OutboundFailed(Failure.CERTIFICATE_REFUSED, str(error)) from error
        raise NotConnected(Failure.CONNECTION_REFUSED, str(error)) from error
    except httpx2.HTTPError as error:
        raise OutboundFailed(Failure.BROKEN, str(error)) from error
    except (httpx2.InvalidURL, ValueError) as error:
        raise OutboundFailed(Failure.INVALID_URL) from error


def _headers(question: Question, url: httpx2.URL, agent: str) -> dict[str, str]:
    headers = {
        "host": url.netloc.decode("ascii"),
        "user-agent": agent,
        "accept": "application/json",
        "accept-encoding": "identity",  # a small body is not to become a large one here
        **question.headers,
    }
    if question.form is not None:
        headers["content-type"] = "application/x-www-form-urlencoded"
    return headers


async def _body_of(response: httpx2.Response) -> bytes:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise OutboundFailed(Failure.BROKEN, "the answer is compressed, which nobody asked for")
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > MAX_ANSWER_BYTES:
            raise OutboundFailed(Failure.TOO_LARGE)
    return bytes(body)


def _is_about_certificate(error: BaseException | None) -> bool:
    """Tell whether TLS failed, which another address of the same name would not change."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False

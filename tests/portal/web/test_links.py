"""No page leads nowhere: every link of every page that an administrator can get to by following links is answered."""

import html
import re
from collections import deque
from urllib.parse import urldefrag, urljoin

import httpx2

from support.portal import World

MOST_PAGES = 400
"""Far more than there are; a page that links to ever new ones is a fault, too."""

_LINK = re.compile(r'\b(?:href|hx-get)="([^"]+)"')


async def test_every_link_of_every_page_is_answered(admin: httpx2.AsyncClient, world: World) -> None:
    async with world.gateway() as gateway, world.client() as client, world.relay() as relay:
        await gateway.join()
        await client.join()
        await relay.join({"stamp_secret": "ab" * 32})
        waiting, seen, dead = deque(["/acme"]), {"/acme"}, {}
        while waiting:
            path = waiting.popleft()
            answer = await admin.get(path, headers={"accept": "text/html"})
            if answer.status_code not in (200, 303):
                dead[path] = answer.status_code
            for link in _links_of(path, answer):
                if link not in seen:
                    seen.add(link)
                    waiting.append(link)
            assert len(seen) < MOST_PAGES, sorted(seen)[-20:]
    assert dead == {}
    assert len(seen) > 10


def _links_of(path: str, answer: httpx2.Response) -> list[str]:
    """Return the paths of the account that a page links to; what only sorts, filters or pages a table is one of
    a kind.
    """
    if not answer.headers.get("content-type", "").startswith("text/html"):
        return []
    found = [urldefrag(urljoin(path, html.unescape(one)))[0] for one in _LINK.findall(answer.text)]
    return [one for one in found if one.startswith("/acme") and not re.search(r"[?&](sort|size|page)=", one)]

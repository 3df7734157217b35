"""Reading the pages' HTML, and filling in their forms."""

import html
import re
from typing import Any

import httpx2


async def post(browser: httpx2.AsyncClient, path: str, **fields: Any) -> httpx2.Response:
    """Send a form as the browser's session would."""
    slug = path.split("/")[1]
    page = (await browser.get(f"/{slug}" if slug == "operator" else f"/{slug}/account")).text
    token = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', page)
    assert token is not None
    return await browser.post(path, data={"csrf_token": token[1], **fields})


async def toast_after(browser: httpx2.AsyncClient, answer: httpx2.Response) -> str:
    """Follow a redirect; returns the message on the page that it leads to."""
    assert answer.status_code == 303, answer.text
    page = (await browser.get(answer.headers["location"])).text
    told = re.search(r'<div class="toast [^"]*">.*?<p>(.*?)</p>', page, re.DOTALL)
    assert told is not None
    return html.unescape(told[1])


async def undone(browser: httpx2.AsyncClient, answer: httpx2.Response) -> httpx2.Response | None:
    """Follow a redirect and press the button of the message that takes back what was done; None: there is none."""
    page = (await browser.get(answer.headers["location"])).text
    form = re.search(
        r'<div class="toast [^"]*">.*?<form method="post" action="([^"]+)">(.*?)</form>', page, re.DOTALL
    )
    if form is None:
        return None
    (token,) = re.findall(r'name="csrf_token" value="([0-9a-f]{64})"', form[2])
    return await browser.post(html.unescape(form[1]), data={"csrf_token": token})


def rows_of(page: str) -> list[str]:
    """Return the rows of the page's table, as HTML."""
    return re.findall(r"<tr role=\"row\" data-key.*?</tr>", page, re.DOTALL)


def shown_names(page: str) -> list[str]:
    """Return what the rows' links are called."""
    return [html.unescape(one) for one in re.findall(r'class="row-link[^"]*">(.*?)</a>', page, re.DOTALL)]


def heading_of(page: str) -> str:
    """Return the heading of what stands beside the table."""
    (told,) = re.findall(r'<h2 id="side-heading">(.*?)</h2>', page, re.DOTALL)
    return html.unescape(told)


def hidden_of(page: str) -> dict[str, str]:
    """Return what a form carries unseen, but for its token."""
    found = re.findall(r'<input type="hidden" name="(version|base)" value="([^"]*)">', page)
    return {name: html.unescape(value) for name, value in found}

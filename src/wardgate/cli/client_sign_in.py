"""`wardgate client sign-in`, `sign-out` and `status`: the token of the headless client (control-plane-protocol §2.8).

The browser may be on another machine: the person opens the address there, signs in, and pastes the token that the
portal shows. It is not echoed where a terminal can be told not to.
"""

import getpass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlencode

from wardgate.cli.client_token_file import delete_token, read_token, write_token
from wardgate.cli.commands import client as options
from wardgate.cli.commands import client_sign_in as asked
from wardgate.cli.errors import UserError
from wardgate.cli.settings import Settings
from wardgate.cli.terminal import Terminal, echo
from wardgate.wire.tokens import TokenKind, kind_of

HEALTH_TIMEOUT_S = 2.0
_MAX_TOKEN_CHARS = 4096


def sign_in(settings: Settings) -> None:
    """Lead a person through the sign-in and keep the token.

    Raises:
        UserError: nobody says where the portal is, or what was pasted is no client's token.
    """
    terminal, path = Terminal.of_this_process(), settings[options.TOKEN_PATH]
    terminal.note("Open this address in a browser, sign in, and copy the token that you are shown:")
    echo(sign_in_url(settings))
    token = checked_token(_pasted(terminal))
    write_token(path, token)
    terminal.note(f"Signed in: the token is in {path}. `wardgate client` uses it.")
    _warn_of_override(settings, terminal)


def sign_out(settings: Settings) -> None:
    """Delete the token. The portal is not told: an administrator can end it there.

    Raises:
        UserError: it cannot be deleted.
    """
    terminal, path = Terminal.of_this_process(), settings[options.TOKEN_PATH]
    if (
        terminal.is_interactive
        and not settings[asked.FORCE]
        and path.exists()
        and not terminal.confirm(f"Delete the token in {path}?")
    ):
        terminal.note("Nothing was deleted.")
        return
    terminal.note(
        f"Signed out: {path} is deleted."
        if delete_token(path)
        else f"Nobody is signed in: there is no {path}."
    )
    _warn_of_override(settings, terminal)


def status(settings: Settings) -> int:
    """Say whose token would be used and whether the client runs; returns 1 if there is no token."""
    path = settings[options.TOKEN_PATH]
    if settings[options.TOKEN]:
        echo("token: set in the environment or the settings file")
        has_token = True
    else:
        has_token = read_token(path) is not None
        echo(f"token: {'in' if has_token else 'none; there is no'} {path}")
    echo(f"client: {_health(*settings[options.HEALTH_CHECK_ADDR])}")
    return 0 if has_token else 1


def sign_in_url(settings: Settings) -> str:
    """Return where a headless client's sign-in begins.

    Raises:
        UserError: nobody says where the portal is.
    """
    base = settings[asked.AUTH_BASE_URL]
    if base is None:
        sockets = settings[options.API_URL]
        if sockets is None:
            raise settings.wrong_usage("missing: --auth-base-url URL, or --api-url URL")
        base = f"http{sockets.removeprefix('ws').removeprefix('http')}"
    slug = settings[asked.ACCOUNT_SLUG]
    return f"{base.rstrip('/')}/{slug or ''}?{urlencode({'as': 'headless-client'})}"


def checked_token(text: str) -> str:
    """Return a pasted token without the blanks around it.

    Raises:
        UserError: it is no token, or that of something else.
    """
    token, kind = text.strip(), kind_of(text.strip())
    if (
        not token
        or len(token) > _MAX_TOKEN_CHARS
        or not token.isascii()
        or not token.isprintable()
        or " " in token
    ):
        raise UserError("that is no token: copy all of it, from the dot at its beginning")
    if kind not in (None, TokenKind.CLIENT):
        assert kind is not None
        raise UserError(f"that is {kind.noun}, a client needs {TokenKind.CLIENT.noun}")
    return token


def _pasted(terminal: Terminal) -> str:
    if terminal.is_interactive:
        return getpass.getpass("Token: ", stream=terminal.stderr)
    return terminal.stdin.readline(_MAX_TOKEN_CHARS + 2)


def _warn_of_override(settings: Settings, terminal: Terminal) -> None:
    if settings[options.TOKEN]:
        variables = ", ".join(options.TOKEN.variables)
        terminal.note(
            f"A token is set elsewhere as well ({variables}, or the settings file), and is used first."
        )


def _health(host: str, port: int) -> str:
    connection = HTTPConnection(host, port, timeout=HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        is_ready = connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return "not running"
    finally:
        connection.close()
    return "running and connected" if is_ready else "running, not connected"

"""The page's server: on this machine alone unless told otherwise, and nothing is fetched."""

import errno
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.base.errors import UserError, shown

if TYPE_CHECKING:
    from gradio import Blocks
    from uvicorn import Server

PORT = 7860
_PORTS = range(PORT, PORT + 100)
_SYSTEM = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"]
_SYSTEM_MONO = ["ui-monospace", "DejaVu Sans Mono", "Menlo", "Consolas", "monospace"]
# Whatever the page's library would load from elsewhere, the browser does not.
_OWN_NAMES = ["127.0.0.1", "localhost", "[::1]"]
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "form-action 'self'; base-uri 'self'; frame-ancestors 'self'"
)


def check_gradio() -> None:
    """Tell before any work that the extra is missing.

    Raises:
        UserError: it is; it is named.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported, and later
    try:
        import gradio  # noqa: F401, PLC0415
    except ImportError as error:
        raise UserError(f"play needs gradio ({error}): pip install 'unmask[play]'") from error


def open_socket(host: str, port: int | None) -> socket.socket:
    """Listen at a port; None: at the first from 7860 that is free.

    Raises:
        UserError: no such host, or the port is taken or not allowed.
    """
    for tried in _PORTS if port is None else [port]:
        try:
            address = socket.getaddrinfo(host, tried, type=socket.SOCK_STREAM)[0]
            return socket.create_server(address[4][:2], family=address[0])
        except OSError as error:
            number = error.errno or 0
            reason = os.strerror(number) if number in errno.errorcode else error.strerror
            if number != errno.EADDRINUSE:
                raise UserError(f"host: cannot listen at {shown(host)} ({reason})") from None
    where = f"port {port} of {host} is" if port else f"ports {_PORTS[0]} to {_PORTS[-1]} are"
    raise UserError(f"port: {where} taken; choose another")


def address_of(listening: socket.socket) -> str:
    """What to open in the browser."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{port}/"


def server(page: "Blocks", *, loopback: bool = True) -> "Server":
    """A server of the page: its ``run(sockets=[...])`` serves until it is interrupted.

    Args:
        loopback: whether it is to be reached from this machine alone. Then it answers to this
            machine's own names and no other: a page elsewhere whose name was made to point here
            gets nothing.
    """
    import gradio as gr  # noqa: PLC0415
    from fastapi import FastAPI  # noqa: PLC0415
    from starlette.middleware.trustedhost import TrustedHostMiddleware  # noqa: PLC0415
    from uvicorn import Config, Server  # noqa: PLC0415

    theme = gr.themes.Base(font=_SYSTEM, font_mono=_SYSTEM_MONO).set(
        block_info_text_color="#5b6270", block_info_text_color_dark="#a0a7b4"
    )
    app = gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        show_error=False,
        theme=theme,
        css_paths=Path(__file__).with_name("page.css"),
    )
    if loopback:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=_OWN_NAMES)
    return Server(Config(_OwnAlone(app), log_level="critical", timeout_graceful_shutdown=1))


class _OwnAlone:
    """Adds the policy to every answer."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", _POLICY.encode())
                message["headers"] = [*message.get("headers", ()), policy]
            await send(message)

        await self._app(scope, receive, send_with_policy)

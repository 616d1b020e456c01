"""The app (ASGI): routes, errors as JSON, and what surrounds them."""

import contextlib
from collections.abc import AsyncIterator, Collection, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from mmpt.page import STATIC
from mmpt.serving import DEFAULT_LIMITS, Limits
from mmpt.serving.api import Api, Content
from mmpt.serving.batching import Batcher
from mmpt.serving.engine import Embedded, Engine, Job
from mmpt.serving.guard import Gate, Guard, refuse, shown_path
from mmpt.serving.openapi import ENDPOINTS
from mmpt.utils.errors import TooLargeError, UserError

_BATCH = 64
"""Requests that are computed together."""
_WARM_UP = "a prompt"


def create_app(
    content: Content,
    limits: Limits = DEFAULT_LIMITS,
    token: str | None = None,
    hosts: Collection[str] | None = None,
    origins: Sequence[str] = (),
) -> ASGIApp:
    """The app. It computes between its start and its end (ASGI's lifespan) only.

    token: what clients must know. hosts: names of this server, None for any. origins: other pages that may
    call the API (CORS).
    """
    engine = Engine(content.model, limits.frames)
    batcher: Batcher[Job, Embedded] = Batcher(engine, _BATCH)
    api = Api(content, limits, batcher)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with batcher:
            await batcher.submit(Job(prompts=[_WARM_UP, *content.prompts]))
            yield

    async def index(request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    routes = [
        Route(endpoint.path, getattr(api, endpoint.handler), methods=[endpoint.method])
        for endpoint in ENDPOINTS
    ]
    page = [Route("/", index), Mount("/page", StaticFiles(directory=STATIC))]
    gate = Middleware(Gate, limits=limits, token=token, hosts=hosts, needs_token=_needs_token)
    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization"],
    )
    app = Starlette(
        routes=[*routes, *page],
        middleware=[*([cors] if origins else []), gate],
        exception_handlers={
            HTTPException: _http_error,
            UserError: _user_error,
            TooLargeError: _too_large,
            Exception: _bug,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return Guard(app, limits)


def _needs_token(path: str) -> bool:
    """Whether a path is of the API; the page and /health need no token."""
    return path.startswith("/api/") or path == "/model"


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = error.detail
    if error.status_code == 404 and message == "Not Found":
        message = f"there is no {shown_path(request.scope)} here; /openapi.json lists what there is."
    elif error.status_code == 405:
        message = f"{shown_path(request.scope)} is not for {request.method[:20]}; see /openapi.json."
    answer = refuse(error.status_code, message)
    answer.headers.update(error.headers or {})
    return answer


async def _user_error(request: Request, error: Exception) -> Response:
    return refuse(400, str(error))


async def _too_large(request: Request, error: Exception) -> Response:
    return refuse(413, str(error))


async def _bug(request: Request, error: Exception) -> Response:
    return refuse(500, "the server has made a mistake, which its log describes.")

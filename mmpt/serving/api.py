"""The endpoints: each checks its form, asks the model thread or reads a file, and answers with JSON."""

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response

from mmpt import __version__
from mmpt.embedding.embedder import SignCLIP
from mmpt.evaluators.metrics.similarity import similarity
from mmpt.evaluators.reports.results import read_view
from mmpt.page import missing_vendor_files
from mmpt.pose.drawn import DRAWING, drawn_pose
from mmpt.pose.reader import parse_pose
from mmpt.search import Index
from mmpt.serving import Limits, openapi
from mmpt.serving.batching import Batcher
from mmpt.serving.clips import Clips
from mmpt.serving.engine import Embedded, Job, Upload, reason_of
from mmpt.serving.forms import Form, read_form
from mmpt.serving.videos import extract_pose
from mmpt.signwriting.glyphs import sign_uri
from mmpt.signwriting.signs import Sign, split_signs
from mmpt.utils.errors import UserError
from mmpt.utils.files import read_text
from mmpt.utils.text import nfc

PICTURES = ("lengths.png", "clips.png")
"""Of a folder of `signclip check`."""
ENDPOINTS = {endpoint.handler: endpoint for endpoint in openapi.ENDPOINTS}


@dataclasses.dataclass
class Content:
    """The model and the data of a server.

    prompts: default prompts of rank. results: folders of evaluations by name. data: a folder of `signclip
    check`. video: whether videos are accepted. token: whether one is needed.
    """

    model: SignCLIP
    index: Index | None = None
    clips: Clips = dataclasses.field(default_factory=Clips)
    prompts: Sequence[str] = ()
    results: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    data: Path | None = None
    video: bool = False
    token: bool = False


class Api:
    """The handlers of openapi.ENDPOINTS. batcher: what runs the jobs."""

    def __init__(self, content: Content, limits: Limits, batcher: Batcher[Job, Embedded]):
        self._content = content
        self._limits = limits
        self._batcher = batcher
        # faiss and the index open their files at the first search
        self._search_one_at_a_time = asyncio.Lock()
        self._extract_one_at_a_time = asyncio.Lock()

    # ---- what there is
    async def health(self, request: Request) -> Response:
        """GET /health."""
        return JSONResponse({"status": "ok", "version": __version__, "token": self._content.token})

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json."""
        return JSONResponse(openapi.describe(token=self._content.token))

    async def describe(self, request: Request) -> Response:
        """GET /model."""
        content, model = self._content, self._content.model
        index = content.index
        reads = {
            "clip": model.video_processor.suffix,
            "signwriting": model.text_processor.reads_signs,
            "hands": list(getattr(model.video_processor, "hands", [])),
        }
        found = {
            "name": model.path.name if model.path else "",
            "fingerprint": model.fingerprint,
            "dim": model.dim,
            "reads": reads,
            "prompts": list(content.prompts),
            "index": index and {"clips": len(index), "measure": index.measure, "summary": index.summary},
            "results": bool(content.results),
            "data": content.data is not None,
            "video": content.video,
            "missing_for_video": missing_vendor_files(),
            "token": content.token,
            "limits": dataclasses.asdict(self._limits),
            "drawing": DRAWING,
        }
        return JSONResponse(found)

    # ---- the model
    async def embed(self, request: Request) -> Response:
        """POST /api/embed."""
        form = await self._form(request, "embed")
        job = self._job(form)
        if not job.clips and not job.prompts:
            raise UserError("nothing to embed: give the file of a clip as 'clip', or a 'prompt'.")
        found = await self._run(request, job)
        clips = [
            {**clip, "embedding": vector.tolist()} for clip, vector in zip(_clips(job, found), found.clips)
        ]
        prompts = [
            {"prompt": prompt, "embedding": vector.tolist()}
            for prompt, vector in zip(job.prompts, found.prompts)
        ]
        answer = {"model": self._content.model.fingerprint, "clips": clips, "prompts": prompts}
        return JSONResponse(answer | {"warnings": found.prompt_warnings})

    async def score(self, request: Request) -> Response:
        """POST /api/score."""
        job = self._job(await self._form(request, "score"))
        found = await self._run(request, job)
        scores = similarity(found.prompts, found.clips).tolist()
        return JSONResponse(
            {"scores": scores, "clips": _clips(job, found), "warnings": found.prompt_warnings}
        )

    async def rank(self, request: Request) -> Response:
        """POST /api/rank."""
        form = await self._form(request, "rank")
        job = self._job(form)
        if not job.prompts:
            if not self._content.prompts:
                raise UserError("this server has no default prompts: give one or more as 'prompt'.")
            job = dataclasses.replace(job, prompts=self._content.prompts)
        top = form.number("top", 10, 0) or len(job.prompts)
        found = await self._run(request, job)
        clips = _clips(job, found)
        for clip, scores in zip(clips, similarity(found.prompts, found.clips).T):
            order = (-scores).argsort(kind="stable")[:top]
            clip["ranked"] = [{"prompt": job.prompts[i], "score": float(scores[i])} for i in order]
        return JSONResponse({"clips": clips, "warnings": found.prompt_warnings})

    async def search(self, request: Request) -> Response:
        """POST /api/search."""
        index = self._index()
        form = await self._form(request, "search")
        job = self._job(form)
        if text := form.texts.get("text"):
            job = dataclasses.replace(job, prompts=[*job.prompts, *text])
        if len(job.prompts) + len(job.clips) != 1:
            got = f"{len(job.prompts)} prompts and {len(job.clips)} clips"
            raise UserError(f"expected one prompt or one clip to search for, got {got}.")
        k = form.number("k", 10, 1)
        found = await self._run(request, job)
        query = found.prompts if job.prompts else found.clips
        async with self._search_one_at_a_time:
            hits = await run_in_threadpool(index.search, query, k)
        rows = [(int(row), float(score)) for row, score in zip(hits.rows[0], hits.scores[0]) if row >= 0]
        warnings = [warning for clip in found.clip_warnings for warning in clip] + found.prompt_warnings
        answer = [{**self._row(index, row), "score": score} for row, score in rows]
        signs = await run_in_threadpool(self._signs, job.prompts)
        return JSONResponse({"hits": answer, "signs": signs, "warnings": warnings})

    def _signs(self, prompts: Sequence[str]) -> list[dict[str, str]]:
        """The signs in SignWriting of some prompts, drawn."""
        if not self._content.model.text_processor.reads_signs:
            return []
        parts = [part for prompt in prompts for part in split_signs(prompt)]
        return [{"fsw": part.fsw, "picture": sign_uri(part)} for part in parts if isinstance(part, Sign)]

    async def pose(self, request: Request) -> Response:
        """POST /api/pose."""
        (upload,) = self._clip_of(await self._form(request, "pose"))
        try:
            clip = await run_in_threadpool(parse_pose, upload.content, most_frames=self._limits.frames)
        except UserError as error:
            raise type(error)(reason_of(upload, error)) from None
        return JSONResponse(await run_in_threadpool(drawn_pose, clip))

    async def extract(self, request: Request) -> Response:
        """POST /api/extract."""
        if not self._content.video:
            raise HTTPException(404, "this server accepts no videos: start it with --allow-video.")
        videos = (await self._form(request, "extract")).files["video"]
        if len(videos) > 1:
            raise UserError(f"got {len(videos)} videos; expected one.")
        async with self._extract_one_at_a_time:
            pose = await extract_pose(videos[0], self._limits.seconds)
        return Response(pose, media_type="application/octet-stream")

    # ---- the index
    async def clips(self, request: Request) -> Response:
        """GET /api/clips."""
        index = self._index()
        query = Form({}, {name: request.query_params.getlist(name) for name in request.query_params})
        if unknown := query.texts.keys() - {"start", "count"}:
            raise UserError(f"there is no parameter {min(unknown)[:60]!r}: expected start, count.")
        start, count = query.number("start", 0, 0), query.number("count", 100, 0)
        rows = range(len(index))[start : start + min(count, 10_000)]
        return JSONResponse({"count": len(index), "clips": [self._row(index, row) for row in rows]})

    async def clip_pose(self, request: Request) -> Response:
        """GET /api/clips/{row}/pose."""
        index = self._index()
        text = request.path_params["row"]
        row = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else -1
        if not 0 <= row < len(index):
            raise HTTPException(404, f"there is no such row: the index has rows 0 to {len(index) - 1}.")
        name = index.name(row)
        if name not in self._content.clips:
            raise HTTPException(404, f"the pose of {name} is not known: start the server with --clips.")
        clip = await run_in_threadpool(self._content.clips.pose, name)
        return JSONResponse(await run_in_threadpool(drawn_pose, clip))

    def _row(self, index: Index, row: int) -> dict[str, Any]:
        name = index.name(row)
        return {"row": row, "id": name, "blank": row in index.blank, "pose": name in self._content.clips}

    def _index(self) -> Index:
        if self._content.index is None:
            raise HTTPException(404, "this server has no index: start it with --index.")
        return self._content.index

    # ---- folders
    async def results(self, request: Request) -> Response:
        """GET /api/results."""
        named = [{"name": name, "title": name} for name in self._content.results]
        return JSONResponse({"results": named})

    async def result(self, request: Request) -> Response:
        """GET /api/results/{name}."""
        folder = self._content.results.get(request.path_params["name"])
        if folder is None:
            raise HTTPException(404, "there are no results of this name: /api/results lists the names.")
        return JSONResponse(await run_in_threadpool(read_view, folder))

    async def data(self, request: Request) -> Response:
        """GET /api/data."""
        pictures = [path.name for path in self._pictures()]
        text = read_text(self._data() / "check.md")
        return JSONResponse({"markdown": text, "pictures": pictures})

    async def picture(self, request: Request) -> Response:
        """GET /api/data/{picture}."""
        for path in self._pictures():
            if path.name == request.path_params["picture"]:
                return FileResponse(path)
        raise HTTPException(404, "there is no such picture: /api/data lists them.")

    def _data(self) -> Path:
        if self._content.data is None:
            raise HTTPException(404, "this server has no check of a table: start it with --data.")
        return self._content.data

    def _pictures(self) -> list[Path]:
        return [path for name in PICTURES if (path := self._data() / name).is_file()]

    # ---- shared by the handlers
    async def _form(self, request: Request, handler: str) -> Form:
        endpoint = ENDPOINTS[handler]
        if request.query_params:
            name = next(iter(request.query_params))
            raise UserError(f"the address has the parameter {name[:60]!r}: send fields in the form.")
        form = await read_form(request, endpoint.files, endpoint.texts, self._limits)
        for name in endpoint.required:
            if not form.files.get(name) and not form.texts.get(name):
                what = "the file of a clip" if name == "clip" else f"a {name}"
                raise UserError(f"the field {name!r} is missing: give {what}.")
        return form

    def _clip_of(self, form: Form) -> list[Upload]:
        clips = form.files.get("clip", [])
        if len(clips) > 1:
            raise UserError(f"got {len(clips)} clips; expected one.")
        return clips

    def _job(self, form: Form) -> Job:
        clips, prompts = form.files.get("clip", []), form.texts.get("prompt", [])
        return Job(clips, list(map(nfc, prompts)), form.truth("mirror"))

    async def _run(self, request: Request, job: Job) -> Embedded:
        """The embeddings of a job. Raises HTTPException (503) after the limit, ClientDisconnect."""
        work = asyncio.ensure_future(self._batcher.submit(job))
        gone = asyncio.ensure_future(_until_gone(request))
        try:
            async with asyncio.timeout(self._limits.seconds):
                await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientDisconnect
            return work.result()
        except TimeoutError:
            raise HTTPException(
                503, f"no answer after {self._limits.seconds:g} seconds: try again."
            ) from None
        finally:
            work.cancel()
            gone.cancel()


async def _until_gone(request: Request) -> None:
    """Wait until the client of a request, whose body was read, closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _clips(job: Job, found: Embedded) -> list[dict[str, Any]]:
    return [
        {"name": clip.name, "warnings": warnings} for clip, warnings in zip(job.clips, found.clip_warnings)
    ]

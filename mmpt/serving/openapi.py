"""The endpoints of the API, and their description for /openapi.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmpt import __version__

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TRUTH: Schema = {"type": "boolean"}
FILE: Schema = {"type": "string", "contentMediaType": "application/octet-stream"}


def list_of(items: Schema) -> Schema:
    """A JSON list."""
    return {"type": "array", "items": items}


def record(**properties: Schema) -> Schema:
    """A JSON object."""
    return {"type": "object", "properties": properties, "required": [*properties]}


def about(schema: Schema, description: str) -> Schema:
    """A schema with a description."""
    return schema | {"description": description}


@dataclass(frozen=True)
class Endpoint:
    """One path and method.

    handler: name of the method of Api. form: fields of the form, required: those that must be there. answer:
    the schema of the JSON, or a media type. query: parameters in the address.
    """

    method: str
    path: str
    handler: str
    summary: str
    answer: Schema | str
    form: Mapping[str, Schema] = field(default_factory=dict)
    required: Sequence[str] = ()
    query: Mapping[str, Schema] = field(default_factory=dict)
    token: bool = True

    @property
    def files(self) -> list[str]:
        """The fields that are files."""
        return [name for name, schema in self.form.items() if FILE.items() <= _item(schema).items()]

    @property
    def texts(self) -> list[str]:
        """The fields that are texts."""
        return [name for name in self.form if name not in self.files]


def _item(schema: Schema) -> Schema:
    return schema.get("items", schema)


WARNINGS = about(list_of(TEXT), "what the model does not see of the prompts")
CLIP = {"name": about(TEXT, "of the file"), "warnings": about(list_of(TEXT), "what the model does not see")}
MIRROR = about(TRUTH, "true: the clips were signed with the left hand")
CLIPS = about(list_of(FILE), "the file of a clip (.pose); may be repeated")
PROMPTS = about(list_of(TEXT), "may be repeated; may hold signs in SignWriting if the model reads them")
ERRORS = {
    "400": "the input is wrong; the error says what is expected",
    "401": "the token is missing",
    "404": "there is no such thing here",
    "405": "the path has another method",
    "408": "the request was not complete in time",
    "413": "more than the limits of /model",
    "429": "too many concurrent requests; Retry-After says when to try again",
    "503": "there was no answer in time",
}

ENDPOINTS = [
    Endpoint(
        *("GET", "/health", "health", "Whether the server answers"),
        record(status=TEXT, version=TEXT, token=about(TRUTH, "whether a token is needed")),
        token=False,
    ),
    Endpoint(
        *("GET", "/openapi.json", "openapi", "This description"),
        {"type": "object"},
        token=False,
    ),
    Endpoint(
        *("GET", "/model", "describe", "The model, what else there is, and the limits"),
        record(
            name=TEXT,
            fingerprint=TEXT,
            dim=COUNT,
            reads=record(clip=TEXT, signwriting=TRUTH, hands=list_of(TEXT)),
            prompts=about(list_of(TEXT), "the default prompts of /api/rank"),
            index={"anyOf": [record(clips=COUNT, measure=TEXT, summary=TEXT), {"type": "null"}]},
            results=about(TRUTH, "whether there are results"),
            data=about(TRUTH, "whether there is the check of a table"),
            video=about(TRUTH, "whether /api/extract works"),
            missing_for_video=about(list_of(TEXT), "files that the page lacks to read videos in the browser"),
            token=TRUTH,
            limits={"type": "object", "additionalProperties": NUMBER},
        ),
    ),
    Endpoint(
        *("POST", "/api/embed", "embed", "Embeddings of clips and prompts"),
        record(
            model=about(TEXT, "its fingerprint"),
            clips=list_of(record(embedding=list_of(NUMBER), **CLIP)),
            prompts=list_of(record(prompt=TEXT, embedding=list_of(NUMBER))),
            warnings=WARNINGS,
        ),
        {"clip": CLIPS, "prompt": PROMPTS, "mirror": MIRROR},
    ),
    Endpoint(
        *("POST", "/api/score", "score", "Cosine similarity of each prompt with each clip"),
        record(
            scores=about(list_of(list_of(NUMBER)), "[prompts][clips]"),
            clips=list_of(record(**CLIP)),
            warnings=WARNINGS,
        ),
        {"clip": CLIPS, "prompt": PROMPTS, "mirror": MIRROR},
        ["clip", "prompt"],
    ),
    Endpoint(
        *("POST", "/api/rank", "rank", "Prompts for each clip, the most similar first"),
        record(
            clips=list_of(record(ranked=list_of(record(prompt=TEXT, score=NUMBER)), **CLIP)),
            warnings=WARNINGS,
        ),
        {
            "clip": CLIPS,
            "prompt": about(PROMPTS, "default: those of /model"),
            "top": about(COUNT, "prompts in the answer (default 10; 0: all)"),
            "mirror": MIRROR,
        },
        ["clip"],
    ),
    Endpoint(
        *("POST", "/api/search", "search", "Clips of the index that are most similar to a prompt or a clip"),
        record(
            hits=list_of(record(row=COUNT, id=TEXT, score=NUMBER, blank=TRUTH, pose=TRUTH)),
            signs=list_of(record(fsw=TEXT, picture=about(TEXT, "the sign of the prompt as a data: address"))),
            warnings=WARNINGS,
        ),
        {
            "prompt": about(TEXT, "words, or signs in SignWriting if the model reads them"),
            "text": about(TEXT, "another name of prompt"),
            "clip": about(FILE, "a clip instead of a prompt"),
            "k": about(COUNT, "hits in the answer (default 10)"),
            "mirror": MIRROR,
        },
    ),
    Endpoint(
        *("POST", "/api/pose", "pose", "The landmarks of a clip, for the player"),
        {"type": "object"},
        {"clip": FILE},
        ["clip"],
    ),
    Endpoint(
        *("POST", "/api/extract", "extract", "The pose of a video; needs --allow-video"),
        "application/octet-stream",
        {"video": FILE},
        ["video"],
    ),
    Endpoint(
        *("GET", "/api/clips", "clips", "The clips of the index"),
        record(count=COUNT, clips=list_of(record(row=COUNT, id=TEXT, blank=TRUTH, pose=TRUTH))),
        query={"start": about(COUNT, "first row (default 0)"), "count": about(COUNT, "rows (default 100)")},
    ),
    Endpoint(
        *(
            "GET",
            "/api/clips/{row}/pose",
            "clip_pose",
            "The landmarks of a clip of the index, for the player",
        ),
        {"type": "object"},
    ),
    Endpoint(
        *("GET", "/api/results", "results", "The evaluations"),
        record(results=list_of(record(name=TEXT, title=TEXT))),
    ),
    Endpoint(
        *("GET", "/api/results/{name}", "result", "One evaluation: its numbers and its clips"),
        {"type": "object"},
    ),
    Endpoint(
        *("GET", "/api/data", "data", "The check of a table"),
        record(markdown=TEXT, pictures=list_of(TEXT)),
    ),
    Endpoint(*("GET", "/api/data/{picture}", "picture", "A figure of the check"), "image/png"),
]


def describe(endpoints: Sequence[Endpoint] = ENDPOINTS, token: bool = False) -> Schema:
    """The OpenAPI document. token: whether requests need the token."""
    paths: dict[str, dict[str, Schema]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, token)
    error = record(error=about(TEXT, "one line for the user"))
    components: Schema = {"schemas": {"Error": error}}
    if token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    information = {"title": "SignCLIP", "version": __version__}
    return {"openapi": "3.1.0", "info": information, "paths": paths, "components": components}


def _operation(endpoint: Endpoint, token: bool) -> Schema:
    media = endpoint.answer if isinstance(endpoint.answer, str) else "application/json"
    answer: Schema = {} if isinstance(endpoint.answer, str) else {"schema": endpoint.answer}
    refused = {"schema": {"$ref": "#/components/schemas/Error"}}
    operation: Schema = {
        "operationId": endpoint.handler,
        "summary": endpoint.summary,
        "responses": {
            "200": {"description": endpoint.summary, "content": {media: answer}},
            **{
                status: {"description": text, "content": {"application/json": refused}}
                for status, text in ERRORS.items()
            },
        },
    }
    names = [part[1:-1] for part in endpoint.path.split("/") if part.startswith("{")]
    parameters = [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in names]
    parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in endpoint.query.items()]
    if parameters:
        operation["parameters"] = parameters
    if endpoint.form:
        schema = {"type": "object", "properties": dict(endpoint.form), "required": [*endpoint.required]}
        operation["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    if token and endpoint.token:
        operation["security"] = [{"token": []}]
    return operation

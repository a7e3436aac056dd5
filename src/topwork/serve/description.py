"""What the service takes and answers, in OpenAPI's words."""

from __future__ import annotations

from typing import Any

from topwork.serve.access import OPEN

Schema = dict[str, Any]

_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
_NAME = {"type": "string"}


def _object(required: Schema, description: str = "") -> Schema:
    found: Schema = {"type": "object", "required": list(required), "properties": required}
    return {**found, "description": description} if description else found


_ANSWER = _object(
    {
        "image": {**_NAME, "description": "Its file name, as it was sent."},
        "class": {**_NAME, "description": "The most probable class."},
        "probability": _PROBABILITY,
        "unknown": {
            "type": ["boolean", "null"],
            "description": "Whether it is unlike all that the classifier was trained on; null: it can't tell.",
        },
        "runners_up": {"type": "array", "items": _object({"class": _NAME, "probability": _PROBABILITY})},
    }
)
_UNREADABLE = _object({"image": _NAME, "error": {**_NAME, "description": "Why it can't be read."}})
_PREDICTIONS = _object(
    {"predictions": {"type": "array", "items": {"oneOf": [_ANSWER, _UNREADABLE]}, "description": "In the order sent."}}
)
_EXPLANATION = _object(
    {
        "image": _NAME,
        "class": {**_NAME, "description": "The class that is explained."},
        "probability": _PROBABILITY,
        "method": {"enum": ["class activation", "occlusion"]},
        "heat": {
            "type": "array",
            "items": {"type": "array", "items": {"type": "number"}},
            "description": "Over the centre square of the upright image, row by row from the top left: what speaks for "
            "the class is positive, what speaks against it negative.",
        },
    }
)
_ERROR = _object({"detail": {"type": "string"}}, "What was expected, what came, and what to do.")
_IMAGE = {"schema": {"type": "string", "format": "binary"}}
_REASONS = {
    400: "The body can't be taken apart, or the head is not that of one request to one host.",
    403: "A page of another site sent it, and the service has no token.",
    408: "The body came too slowly.",
    413: "Too many bytes, or too many images.",
    415: "Another Content-Type than that of an image or a form.",
    421: "A Host that this service does not answer to.",
    422: "No image, one image that can't be read, or a parameter that is none.",
    500: "A mistake in the service; its log says more.",
    503: "Too much waits already, or the service is starting or stopping. Retry-After says when to try again.",
}


def _json(schema: Schema, description: str) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _errors(*statuses: int) -> dict[int | str, Schema]:
    return {status: _json(_ERROR, _REASONS[status]) for status in statuses}


_GET_ERRORS = _errors(400, 421)
_POST_ERRORS = _errors(400, 403, 408, 413, 415, 421, 422, 500, 503)
PREDICT: dict[int | str, Schema] = {200: _json(_PREDICTIONS, "An answer for each image."), **_POST_ERRORS}
EXPLAIN: dict[int | str, Schema] = {200: _json(_EXPLANATION, "What speaks for the class."), **_POST_ERRORS}
METADATA: dict[int | str, Schema] = {
    200: _json({"type": "object"}, "The classifier, and the limits of this service."),
    **_GET_ERRORS,
}
METRICS: dict[int | str, Schema] = {
    200: {"description": "For Prometheus.", "content": {"text/plain": {}}},
    **_GET_ERRORS,
}
PAGE: dict[int | str, Schema] = {
    200: {"description": "The page for people.", "content": {"text/html": {}}},
    **_GET_ERRORS,
}
_STATE = _object({"status": _NAME})
HEALTH: dict[int | str, Schema] = {200: _json(_STATE, "The process answers."), **_GET_ERRORS}
READY: dict[int | str, Schema] = {
    200: _json(_STATE, "It can classify."),
    503: _json(_STATE, "Not yet, or not any more."),
    **_GET_ERRORS,
}


def _body(form: Schema) -> Schema:
    content = {"image/*": _IMAGE, "application/octet-stream": _IMAGE, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


ONE_IMAGE = _body(_object({"image": {"type": "string", "format": "binary"}}))
IMAGES = _body(_object({"images": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}}))


def with_token(description: Schema) -> Schema:
    """`description` with the token that this service wants."""
    description.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, methods in description["paths"].items():
        for operation in methods.values() if path not in OPEN else ():
            operation["security"] = [{"token": []}]
            operation["responses"]["401"] = _json(_ERROR, "No token, or another one.")
    return description

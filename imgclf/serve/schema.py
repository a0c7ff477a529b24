"""The OpenAPI 3.1 document that /openapi.json returns."""

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import imgclf
from imgclf.serve import bodies


def openapi(class_names: Sequence[str], with_token: bool) -> dict[str, Any]:
    """Return the document. Its examples use the classes of the run. with_token: whether the server requires a token."""
    refusals = {
        "400": _error("The request is malformed."),
        "408": _error("The request body did not arrive within the time limit."),
        "413": _error(f"More than {bodies.MAX_REQUEST:,} bytes or {bodies.MAX_FILES} files."),
        "429": _error(
            "Too many requests or wrong tokens from this client. Retry-After contains the seconds until the next try."
        ),
        "503": _error("Too many waiting requests. Retry-After contains the seconds until the next try."),
        **({"401": _error("The token is missing or wrong.")} if with_token else {}),
    }
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "imgclf",
            "version": imgclf.__version__,
            "description": "Predictions of one trained image classifier. Images are decoded in memory and not kept.",
        },
        "paths": {
            "/predict": {"post": _predict(class_names[0], refusals)},
            "/explain": {"post": _explain(class_names, refusals)},
            "/model": {"get": _get("model", "The model card: classes, accuracy, limits", "application/json", with_token)},
            "/healthz": {"get": _get("health", "Whether the process runs", "text/plain", False)},
            "/readyz": {
                "get": _get(
                    "ready", "Whether the server accepts requests, and with how many processes", "text/plain", False, busy=True
                )
            },
            "/metrics": {"get": _get("metrics", "Counters for Prometheus", "text/plain", with_token)},
        },
        "components": {
            "schemas": {
                "Record": _shipped("prediction"),
                "Model": _shipped("serve-model"),
                "Error": {
                    "type": "object",
                    "required": ["error"],
                    "additionalProperties": False,
                    "properties": {"error": {"type": "string"}},
                },
            }
        },
    }
    if with_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _predict(label: str, refusals: dict[str, Any]) -> dict[str, Any]:
    """Return the description of POST /predict. label: a class for the example."""
    record = {
        "input": "cat.jpg", "label": label, "probability": 0.97, "top": [{"label": label, "probability": 0.97}], "error": None,
    }  # fmt: skip
    failure: dict[str, Any] = {
        "input": "page.html",
        "label": None,
        "probability": None,
        "top": [],
        "error": "not an image but an HTML page",
    }
    several = {"type": "array", "items": _FILE, "minItems": 1, "description": f"{bodies.MAX_FILES} at most."}
    records = {"type": "array", "items": {"$ref": "#/components/schemas/Record"}}
    return {
        "operationId": "predict",
        "summary": "Classify images: one record per image, in order",
        "parameters": [
            {
                "name": "top", "in": "query", "required": False, "description": "Number of most likely classes to return.",
                "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999, "default": 1}, "example": 3,
            }
        ],
        "requestBody": _body(several),
        "responses": {
            "200": _response("At least one image was predicted.", records, [record, failure]),
            "422": _response("No image was predicted. Each record contains the error.", records, [failure]),
            **refusals,
        },
    }  # fmt: skip


def _explain(class_names: Sequence[str], refusals: dict[str, Any]) -> dict[str, Any]:
    """Return the description of POST /explain."""
    return {
        "operationId": "explain",
        "summary": "Saliency map: the image with the regions that support a class highlighted",
        "parameters": [
            {
                "name": "label", "in": "query", "required": False, "description": "The class; by default the most likely one.",
                "schema": {"type": "string", "enum": list(class_names)}, "example": class_names[0],
            }
        ],
        "requestBody": _body(_FILE),
        "responses": {
            "200": {"description": "A JPEG image.", "content": {"image/jpeg": {"schema": _FILE}}},
            "422": _error("The image cannot be decoded."),
            **refusals,
        },
    }  # fmt: skip


_FILE = {"type": "string", "format": "binary"}


def _shipped(name: str) -> dict[str, Any]:
    """Return a schema of `imgclf schema` without the keys that the enclosing document defines."""
    schema = json.loads((resources.files("imgclf") / "schemas" / f"{name}.json").read_text("utf-8"))
    return {key: value for key, value in schema.items() if key not in ("$schema", "$id")}


def _body(files: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a request body: a form with `file`, or the bytes of one image."""
    form = {"type": "object", "properties": {"file": files}, "required": ["file"]}
    image = {"schema": {"type": "string", "format": "binary"}}
    return {
        "required": True,
        "content": {"multipart/form-data": {"schema": form}, "application/octet-stream": image, "image/*": image},
    }


def _response(description: str, schema: dict[str, Any], example: object) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema, "example": example}}}


def _error(description: str) -> dict[str, Any]:
    return _response(description, {"$ref": "#/components/schemas/Error"}, {"error": description})


def _get(name: str, summary: str, media_type: str, with_token: bool, *, busy: bool = False) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Model"} if media_type == "application/json" else {"type": "string"}
    responses = {"200": {"description": summary, "content": {media_type: {"schema": schema}}}}
    if with_token:
        responses["401"] = _error("The token is missing or wrong.")
    responses["429"] = _error(
        "Too many requests or wrong tokens from this client. Retry-After contains the seconds until the next try."
    )
    if busy:
        responses["503"] = _error("The server is stopping, or its queue is full.")
    return {"operationId": name, "summary": summary, "responses": responses, **({} if with_token else {"security": []})}

"""The description of the API that /openapi.json gives (OpenAPI 3.1), with examples."""

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import imgclf
from imgclf.serve import bodies


def openapi(class_names: Sequence[str], with_token: bool) -> dict[str, Any]:
    """The whole document; its examples speak of the run's own classes."""
    refusals = {
        "400": _error("The request is malformed."),
        "408": _error("The body came too slowly."),
        "413": _error(f"More than {bodies.MAX_REQUEST:,} bytes or {bodies.MAX_FILES} files."),
        "429": _error("Too many requests or wrong tokens from this client; Retry-After says when to try again."),
        "503": _error("Too much is waiting; Retry-After says when to try again."),
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
            "/model": {"get": _get("model", "What the model is, how good, and the limits", "application/json", with_token)},
            "/healthz": {"get": _get("health", "Whether the process lives", "text/plain", False)},
            "/readyz": {
                "get": _get("ready", "Whether it takes requests, and how many processes do", "text/plain", False, busy=True)
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
    """POST /predict; label: a class for the example."""
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
        "summary": "What is on images: a record for each, in order",
        "parameters": [
            {
                "name": "top", "in": "query", "required": False, "description": "Likeliest classes to give.",
                "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999, "default": 1}, "example": 3,
            }
        ],
        "requestBody": _body(several),
        "responses": {
            "200": _answer("At least one image was predicted.", records, [record, failure]),
            "422": _answer("None could be; each record says why.", records, [failure]),
            **refusals,
        },
    }  # fmt: skip


def _explain(class_names: Sequence[str], refusals: dict[str, Any]) -> dict[str, Any]:
    """POST /explain."""
    return {
        "operationId": "explain",
        "summary": "Where the model looks: the image with what speaks for a class lit up",
        "parameters": [
            {
                "name": "label", "in": "query", "required": False, "description": "The class; else the likeliest.",
                "schema": {"type": "string", "enum": list(class_names)}, "example": class_names[0],
            }
        ],
        "requestBody": _body(_FILE),
        "responses": {
            "200": {"description": "A JPEG.", "content": {"image/jpeg": {"schema": _FILE}}},
            "422": _error("No image that can be decoded."),
            **refusals,
        },
    }  # fmt: skip


_FILE = {"type": "string", "format": "binary"}


def _shipped(name: str) -> dict[str, Any]:
    """What `imgclf schema` prints, as a part of a document that says itself what it is."""
    whole = json.loads((resources.files("imgclf") / "schemas" / f"{name}.json").read_text("utf-8"))
    return {key: value for key, value in whole.items() if key not in ("$schema", "$id")}


def _body(files: dict[str, Any]) -> dict[str, Any]:
    """A form with `file`, or one image as it is."""
    form = {"type": "object", "properties": {"file": files}, "required": ["file"]}
    image = {"schema": {"type": "string", "format": "binary"}}
    return {
        "required": True,
        "content": {"multipart/form-data": {"schema": form}, "application/octet-stream": image, "image/*": image},
    }


def _answer(words: str, schema: dict[str, Any], example: object) -> dict[str, Any]:
    return {"description": words, "content": {"application/json": {"schema": schema, "example": example}}}


def _error(words: str) -> dict[str, Any]:
    return _answer(words, {"$ref": "#/components/schemas/Error"}, {"error": words})


def _get(name: str, words: str, media_type: str, with_token: bool, *, busy: bool = False) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Model"} if media_type == "application/json" else {"type": "string"}
    responses = {"200": {"description": words, "content": {media_type: {"schema": schema}}}}
    if with_token:
        responses["401"] = _error("The token is missing or wrong.")
    responses["429"] = _error("Too many requests or wrong tokens from this client; Retry-After says when to try again.")
    if busy:
        responses["503"] = _error("It is stopping, or its queue is full.")
    return {"operationId": name, "summary": words, "responses": responses, **({} if with_token else {"security": []})}

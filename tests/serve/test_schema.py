"""The service keeps to its own OpenAPI description, whatever it is sent (schemathesis)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

OPERATIONS = ("POST /predict", "POST /explain", "GET /", "GET /health", "GET /ready", "GET /metadata", "GET /metrics")


@pytest.mark.parametrize(
    ("operation", "mode"),
    [(operation, GenerationMode.POSITIVE) for operation in OPERATIONS]
    + [(operation, GenerationMode.NEGATIVE) for operation in OPERATIONS if operation.startswith("POST")],
)
def test_it_keeps_to_its_description(service: Any, operation: str, mode: GenerationMode) -> None:
    """Two checks are left out: random bytes are rarely an image, which no description can say, so that valid requests
    get a 422; and a form's parts are taken whatever they are called, and named where they are no images.
    """
    load_all_checks()
    method, path = operation.split()
    described = schemathesis.openapi.from_url(f"{service.address}/openapi.json")[path][method]

    @given(case=described.as_strategy(generation_mode=mode))
    @settings(
        max_examples={"/predict": 60, "/explain": 25}.get(path, 5),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any) -> None:
        case.call_and_validate(excluded_checks=[positive_data_acceptance, negative_data_rejection])

    check()


def test_description_is_whole(service: Any) -> None:
    found = httpx.get(f"{service.address}/openapi.json").json()
    assert {f"{method.upper()} {path}" for path, methods in found["paths"].items() for method in methods} == set(
        OPERATIONS
    )
    for path in ("/predict", "/explain"):
        operation = found["paths"][path]["post"]
        assert set(operation["responses"]) == {"200", "400", "403", "408", "413", "415", "421", "422", "500", "503"}
        body = operation["requestBody"]["content"]
        assert set(body) == {"image/*", "application/octet-stream", "multipart/form-data"}
    assert httpx.get(f"{service.address}/docs").status_code == 404
    assert httpx.get(f"{service.address}/redoc").status_code == 404

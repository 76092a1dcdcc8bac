"""Writes kubernetes.json: the schemas of the kinds Dear deploys, out of the kubernetes-validate package, without their prose."""

import json
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

RELEASE = "v1.35.0-local-strict"
KINDS = {
    "v1/Namespace": "io.k8s.api.core.v1.Namespace",
    "v1/ConfigMap": "io.k8s.api.core.v1.ConfigMap",
    "v1/Secret": "io.k8s.api.core.v1.Secret",
    "v1/Service": "io.k8s.api.core.v1.Service",
    "apps/v1/Deployment": "io.k8s.api.apps.v1.Deployment",
    "apps/v1/StatefulSet": "io.k8s.api.apps.v1.StatefulSet",
    "batch/v1/Job": "io.k8s.api.batch.v1.Job",
    "policy/v1/PodDisruptionBudget": "io.k8s.api.policy.v1.PodDisruptionBudget",
}


def trim(definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of each kind under `kinds`, and every definition that one of them reaches under `$defs`."""
    reached: dict[str, Any] = {}
    waiting = list(KINDS.values())
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached[name] = without_prose(definitions[name])
            waiting.extend(references(reached[name]))
    return {"kinds": {kind: {"$ref": f"#/$defs/{name}"} for kind, name in KINDS.items()}, "$defs": dict(sorted(reached.items()))}


def without_prose(schema: Any) -> Any:
    if isinstance(schema, dict):
        # A property may be called "description" too; prose is the one whose value is text.
        prose = {
            key for key, value in schema.items() if key.startswith("x-kubernetes") or (key == "description" and isinstance(value, str))
        }
        return {key: relocated(key, value) for key, value in schema.items() if key not in prose}
    return [without_prose(item) for item in schema] if isinstance(schema, list) else schema


def relocated(key: str, value: Any) -> Any:
    """References point into another file there, and into this one here."""
    return f"#/$defs/{value.rsplit('/', 1)[1]}" if key == "$ref" else without_prose(value)


def references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref":
                yield value.rsplit("/", 1)[1]
            else:
                yield from references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from references(item)


if __name__ == "__main__":
    source = files("kubernetes_validate") / "kubernetes-json-schema" / RELEASE / "_definitions.json"
    trimmed = trim(json.loads(source.read_text())["$defs"])
    Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "kubernetes.json").write_text(
        json.dumps(trimmed, separators=(",", ":")) + "\n"
    )

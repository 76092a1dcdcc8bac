"""The container and cluster manifests follow their schemas, agree with each other, and keep the design's ports."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
BASE = ROOT / "deploy" / "k8s" / "base"
SCHEMAS = Path(__file__).parent / "schemas"
PORTS = {"identity": 8081, "segmentation": 8082, "campaigns": 8083, "notifications": 8084}
ROLES = {service: {"api", "worker"} for service in PORTS}
OTHER_PUBLISHED_PORTS = {"kafka": {9092}, "mongodb": {27017}, "mail": {8025, 8026}, "prometheus": {9090}}
ONE_SHOT = {"topics"}

Manifest = dict[str, Any]

COMPOSE: Manifest = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
COMPOSE_SERVICES: dict[str, Manifest] = COMPOSE["services"]
OURS = {name: service for name, service in COMPOSE_SERVICES.items() if service["image"].startswith("dear:")}
PROCESSES = {name: service for name, service in OURS.items() if name not in ONE_SHOT}
CLUSTER_FILES = sorted(path.name for path in BASE.glob("*.yaml") if path.name != "kustomization.yaml")
CLUSTER: list[Manifest] = [manifest for name in CLUSTER_FILES for manifest in yaml.safe_load_all((BASE / name).read_text())]
KUSTOMIZATION: Manifest = yaml.safe_load((BASE / "kustomization.yaml").read_text())


def of_kind(*kinds: str) -> list[Manifest]:
    return [manifest for manifest in CLUSTER if manifest["kind"] in kinds]


WORKLOADS = of_kind("Deployment", "StatefulSet")
RUNNING = WORKLOADS + of_kind("Job")


def named(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def labels(manifest: Manifest) -> dict[str, str]:
    return dict(manifest["spec"]["template"]["metadata"]["labels"])


def container(manifest: Manifest) -> Manifest:
    [only] = manifest["spec"]["template"]["spec"]["containers"]
    return dict(only)


def check_compose(manifest: Manifest) -> None:
    schema = json.loads((SCHEMAS / "compose-spec.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(manifest)


def check_cluster(manifest: Manifest) -> None:
    schema = json.loads((SCHEMAS / "kubernetes.json").read_text())
    kind = schema["kinds"][f"{manifest['apiVersion']}/{manifest['kind']}"]
    jsonschema.Draft202012Validator(kind | {"$defs": schema["$defs"]}).validate(manifest)


def changed(manifest: Manifest, path: str, value: Any) -> Manifest:
    """A copy with the value at a dotted path replaced, or removed where the value is None."""
    result = copy.deepcopy(manifest)
    *parents, last = path.split(".")
    place: Any = result
    for step in parents:
        place = place[int(step) if isinstance(place, list) else step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return result


def test_the_compose_file_follows_the_compose_specification() -> None:
    check_compose(COMPOSE)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("services.kafka.imag", "apache/kafka:4.3.1"),
        ("services.kafka.ports", "9092"),
        ("services.mail.healthcheck.intervall", "5s"),
        ("services.topics.depends_on.kafka", {"condition": "service_is_fine"}),
        ("services.identity-api.restart", ["unless-stopped"]),
    ],
)
def test_a_broken_compose_file_is_refused(path: str, value: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check_compose(changed(COMPOSE, path, value))


@pytest.mark.parametrize("manifest", CLUSTER, ids=named)
def test_every_cluster_manifest_follows_its_kubernetes_schema(manifest: Manifest) -> None:
    check_cluster(manifest)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.replicas", "two"),
        ("spec.selector", None),
        ("spec.replica", 2),
        ("spec.template.spec.containers.0.livenesProbe", {}),
        ("spec.template.spec.containers.0.ports", [{"name": "http"}]),
        ("spec.template.spec.containers.0.securityContext.readOnlyRootFileSystem", True),
        ("metadata.labels", ["identity"]),
    ],
)
def test_a_broken_cluster_manifest_is_refused(path: str, value: Any) -> None:
    deployment = next(manifest for manifest in WORKLOADS if named(manifest) == "Deployment/identity-api")
    with pytest.raises(jsonschema.ValidationError):
        check_cluster(changed(deployment, path, value))


def test_the_kustomization_names_every_manifest_and_leaves_the_example_secret_out() -> None:
    assert sorted(KUSTOMIZATION["resources"]) == [name for name in CLUSTER_FILES if name != "secret.example.yaml"]


def test_compose_runs_every_role_of_every_service() -> None:
    roles: dict[str, set[str]] = {service: set() for service in PORTS}
    for process in PROCESSES.values():
        service, role = process["command"]
        roles[service] |= ROLES[service] if role == "all" else {role}
    assert roles == ROLES


def test_the_cluster_runs_every_role_of_every_service_once_with_its_own_budget() -> None:
    commands = [tuple(container(workload)["args"]) for workload in WORKLOADS]
    assert sorted(commands) == sorted((service, role) for service, roles in ROLES.items() for role in roles)
    guarded = [budget["spec"]["selector"]["matchLabels"] for budget in of_kind("PodDisruptionBudget")]
    for workload in WORKLOADS:
        selector = workload["spec"]["selector"]["matchLabels"]
        assert selector.items() <= labels(workload).items(), named(workload)
        assert guarded.count(selector) == 1, named(workload)
    assert len(guarded) == len(WORKLOADS)


def test_labels_say_what_a_pod_runs() -> None:
    for workload in WORKLOADS:
        service, role = container(workload)["args"]
        assert workload["metadata"]["name"] == f"{service}-{role}"
        assert (labels(workload)["app.kubernetes.io/name"], labels(workload)["app.kubernetes.io/component"]) == (service, role)


def test_topics_are_applied_first() -> None:
    assert COMPOSE_SERVICES["topics"]["command"] == ["topics", "apply"]
    assert [container(job)["args"] for job in of_kind("Job")] == [["topics", "apply"]]
    for name, process in PROCESSES.items():
        assert process["depends_on"]["topics"] == {"condition": "service_completed_successfully"}, name


def test_no_more_workers_than_partitions() -> None:
    assert all(workload["spec"]["replicas"] <= 8 for workload in WORKLOADS if container(workload)["args"][1] == "worker")


def published(service: Manifest) -> Iterator[tuple[str, int, int]]:
    for port in service.get("ports", []):
        address, outside, inside = port.split(":")
        yield address, int(outside), int(inside)


def test_compose_keeps_the_ports_of_the_design_on_loopback_only() -> None:
    seen: dict[str, set[int]] = {}
    for name, service in COMPOSE_SERVICES.items():
        for address, outside, _inside in published(service):
            assert address == "127.0.0.1", name
            seen.setdefault(service["command"][0] if name in OURS else name, set()).add(outside)
    assert seen == OTHER_PUBLISHED_PORTS | {service: {port} for service, port in PORTS.items()}


def test_every_compose_process_listens_on_its_service_port() -> None:
    for name, process in PROCESSES.items():
        port = PORTS[process["command"][0]]
        assert process["environment"]["DEAR_PORT"] == str(port), name
        assert all(inside == port for _address, _outside, inside in published(process)), name


def test_every_pod_listens_on_its_service_port() -> None:
    for workload in WORKLOADS:
        port = PORTS[container(workload)["args"][0]]
        assert container(workload)["env"] == [{"name": "DEAR_PORT", "value": str(port)}], named(workload)
        assert container(workload)["ports"] == [{"name": "http", "containerPort": port}], named(workload)
        assert workload["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(port), named(workload)


def test_every_service_has_an_address_that_leads_to_its_api() -> None:
    addresses = {service["metadata"]["name"]: service["spec"] for service in of_kind("Service")}
    for service, port in PORTS.items():
        assert addresses[service]["ports"] == [{"name": "http", "port": port, "targetPort": "http"}]
        assert addresses[service]["selector"] == {"app.kubernetes.io/name": service, "app.kubernetes.io/component": "api"}


def test_a_stateful_set_has_the_headless_service_it_names() -> None:
    headless = {
        service["metadata"]["name"]: service["spec"] for service in of_kind("Service") if service["spec"].get("clusterIP") == "None"
    }
    for workload in of_kind("StatefulSet"):
        assert headless[workload["spec"]["serviceName"]]["selector"] == workload["spec"]["selector"]["matchLabels"]


def urls(environment: dict[str, str]) -> dict[str, tuple[str, int]]:
    matches = {name: re.fullmatch(r"http://([a-z-]+):(\d+)", value) for name, value in environment.items() if name.endswith("_URL")}
    return {name: (match[1], int(match[2])) for name, match in matches.items() if match}


def test_services_find_each_other() -> None:
    [config] = of_kind("ConfigMap")
    in_cluster = urls(config["data"])
    assert in_cluster == {"DEAR_IDENTITY_URL": ("identity", PORTS["identity"])}
    for name, process in PROCESSES.items():
        in_compose = urls(process["environment"])
        assert in_compose.keys() == in_cluster.keys(), name
        for variable, (host, port) in in_compose.items():
            service, role = PROCESSES[host]["command"]
            assert (variable, port) == (f"DEAR_{service.upper()}_URL", PORTS[service])
            assert role != "worker"


def test_the_cluster_is_configured_with_the_variables_that_compose_uses() -> None:
    [config], [secret] = of_kind("ConfigMap"), of_kind("Secret")
    assert config["data"].keys() | secret["stringData"].keys() == COMPOSE["x-environment"].keys()


def test_prometheus_scrapes_every_process_of_compose() -> None:
    [job] = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    scraped = {
        target: (group["labels"]["service"], group["labels"]["role"]) for group in job["static_configs"] for target in group["targets"]
    }
    assert scraped == {f"{name}:{process['environment']['DEAR_PORT']}": tuple(process["command"]) for name, process in PROCESSES.items()}


def images() -> list[str]:
    from_compose = [service["image"] for service in COMPOSE_SERVICES.values()]
    from_cluster = [container(workload)["image"] for workload in RUNNING]
    from_dockerfile = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    return from_compose + from_cluster + from_dockerfile


@pytest.mark.parametrize("image", sorted(set(images())))
def test_every_image_has_a_version(image: str) -> None:
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+[\w.-]*", image)


def test_our_image_has_the_version_of_the_project() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert version is not None
    assert {image for image in images() if image.startswith("dear")} == {f"dear:{version[1]}"}


def test_the_broker_in_a_container_is_the_one_that_is_tested() -> None:
    version = re.search(r"<kafka.version>(.+)</kafka.version>", (ROOT / "deploy" / "kafka-jars" / "pom.xml").read_text())
    assert version is not None
    assert COMPOSE_SERVICES["kafka"]["image"] == f"apache/kafka:{version[1]}"


@pytest.mark.parametrize("name", COMPOSE_SERVICES)
def test_every_compose_container_has_a_memory_limit_and_a_health_check(name: str) -> None:
    service = COMPOSE_SERVICES[name]
    assert service["mem_limit"]
    if name in ONE_SHOT:
        assert service["healthcheck"] == {"disable": True}
        assert service["restart"] == "on-failure"
    else:
        assert service["healthcheck"]["test"][0] == "CMD"
        assert ("/health/ready" in " ".join(service["healthcheck"]["test"])) == (name in OURS)


@pytest.mark.parametrize("workload", WORKLOADS, ids=named)
def test_every_pod_says_whether_it_lives_and_whether_it_is_ready(workload: Manifest) -> None:
    probes = {probe: container(workload)[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert probes == {
        "startupProbe": {"path": "/health/live", "port": "http"},
        "livenessProbe": {"path": "/health/live", "port": "http"},
        "readinessProbe": {"path": "/health/ready", "port": "http"},
    }


@pytest.mark.parametrize("workload", RUNNING, ids=named)
def test_every_pod_has_requests_a_memory_limit_and_no_rights(workload: Manifest) -> None:
    pod, only = workload["spec"]["template"]["spec"], container(workload)
    assert only["resources"]["requests"].keys() == {"cpu", "memory"}
    assert only["resources"]["limits"]["memory"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


@pytest.mark.parametrize("workload", RUNNING, ids=named)
def test_every_pod_can_write_its_data_directory_and_nothing_else(workload: Manifest) -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in container(workload)["volumeMounts"]}
    volumes = [volume["name"] for volume in workload["spec"]["template"]["spec"]["volumes"]]
    claims = [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])]
    assert mounts == {"/data": "data", "/tmp": "tmp"}
    assert sorted(volumes + claims) == ["data", "tmp"]


def test_segmentation_keeps_its_snapshots_when_a_pod_is_replaced() -> None:
    [worker] = of_kind("StatefulSet")
    assert container(worker)["args"] == ["segmentation", "worker"]
    assert [claim["metadata"]["name"] for claim in worker["spec"]["volumeClaimTemplates"]] == ["data"]
    assert COMPOSE_SERVICES["segmentation"]["volumes"] == ["segmentation:/data"]


@pytest.mark.parametrize("name", PROCESSES)
def test_compose_gives_our_processes_no_rights(name: str) -> None:
    process = PROCESSES[name]
    assert process["read_only"] is True
    assert process["cap_drop"] == ["ALL"]
    assert process["security_opt"] == ["no-new-privileges:true"]


def test_the_image_runs_as_the_user_the_cluster_expects() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    user = re.search(r"^USER (\d+):(\d+)$", dockerfile, flags=re.MULTILINE)
    assert user is not None
    for workload in RUNNING:
        context = workload["spec"]["template"]["spec"]["securityContext"]
        assert (str(context["runAsUser"]), str(context["runAsGroup"])) == user.groups(), named(workload)


def test_no_secret_is_written_down() -> None:
    [secret] = of_kind("Secret")
    assert "data" not in secret
    assert all(re.fullmatch(r"<.+>", value) for value in secret["stringData"].values())
    # `:?` makes compose refuse to start without it.
    for name in ("DEAR_INGEST_WRITE_KEYS", "DEAR_KEY_PEPPER", "DEAR_MASTER_KEY"):
        assert COMPOSE["x-environment"][name].startswith(f"${{{name}:?")


def test_pods_read_the_configuration_and_then_the_secret() -> None:
    for workload in RUNNING:
        assert container(workload)["envFrom"] == [{"configMapRef": {"name": "dear"}}, {"secretRef": {"name": "dear"}}], named(workload)

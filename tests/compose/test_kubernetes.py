"""The Kubernetes manifests: valid by Kubernetes' own schemas, and consistent with each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from fedmq.process.settings import variables
from fedmq_cli.deployment.given import GivenSecrets
from fedmq_cli.deployment.secret_store import Passwords, secret_files
from fedmq_schemas.topology import Topology

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
MANIFESTS: list[dict[str, Any]] = [
    manifest for name in KUSTOMIZATION["resources"] for manifest in yaml.safe_load_all((FOLDER / name).read_text())
]
WORKLOADS = [each for each in MANIFESTS if each["kind"] in ("Deployment", "StatefulSet")]
OURS = [each for each in WORKLOADS if each["spec"]["template"]["spec"]["containers"][0]["image"].startswith("fedmq-")]


def container(workload: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = workload["spec"]["template"]["spec"]["containers"][0]
    return found


def name(manifest: dict[str, Any]) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name']}"


@pytest.mark.parametrize("manifest", [each for each in MANIFESTS if "keda" not in each["apiVersion"]], ids=name)
def test_a_manifest_is_valid_by_the_schema_of_its_kind(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, "1.31", strict=True)


def test_the_schema_check_refuses_a_misspelt_field() -> None:
    wrong = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"nmae": "fedmq"}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.31", strict=True)


def test_every_file_of_the_folder_is_a_resource() -> None:
    files = {path.name for path in FOLDER.iterdir() if path.is_file()}
    assert files == {*KUSTOMIZATION["resources"], "kustomization.yaml"}


def test_every_reference_to_a_map_or_secret_is_made_by_a_generator() -> None:
    generated = {each["name"] for each in KUSTOMIZATION["configMapGenerator"] + KUSTOMIZATION["secretGenerator"]}
    text = "\n".join((FOLDER / name).read_text() for name in KUSTOMIZATION["resources"])
    references = r"(?:configMapRef|secretRef|secretKeyRef|configMap): \{name: ([\w-]+)|secretName: ([\w-]+)"
    named = {name for found in re.findall(references, text) for name in found if name}
    assert named | {"monitor"} == generated  # KEDA names that one
    assert "{parameter: host, name: monitor, key: management_url}" in text
    assert {each["name"] for each in KUSTOMIZATION["images"]} == {container(workload)["image"] for workload in OURS}


def test_every_secret_is_a_file_that_is_made_for_its_workload_and_none_is_in_the_repository() -> None:
    made = secret_files(GivenSecrets.model_validate({"FEDN_AMQP_URL": "amqp://rabbitmq:5672/"}), Passwords({}))
    files = {f"secrets/{each.container}/{each.name}" for each in made}
    for each in KUSTOMIZATION["secretGenerator"]:
        assert each.keys() == {"name", "files"}
        assert all(file in files and file.startswith(f"secrets/{each['name']}/") for file in each["files"])
    assert (FOLDER / "secrets" / ".gitignore").read_text() == "*\n!.gitignore\n"


@pytest.mark.parametrize("workload", WORKLOADS, ids=name)
def test_a_workload_reads_from_files_the_secrets_that_it_is_given_and_no_others(workload: dict[str, Any]) -> None:
    mounted = [
        each["secret"]["secretName"] for each in workload["spec"]["template"]["spec"]["volumes"] if "secret" in each
    ]
    generators = {each["name"]: each["files"] for each in KUSTOMIZATION["secretGenerator"]}
    given = {file.rpartition("/")[2] for secret in mounted for file in generators[secret]}
    env = container(workload).get("env", ())
    read = {each["value"].rpartition("/")[2] for each in env if each["name"].endswith("_FILE")}
    read |= {
        each["subPath"] for each in container(workload)["volumeMounts"] if each.get("subPath") == "definitions.json"
    }
    assert read == given
    workload_name = workload["metadata"]["name"]
    assert mounted == [{"accounts": "admin"}.get(workload_name, workload_name)]
    assert not [each for each in env if "valueFrom" in each and "secretKeyRef" in each["valueFrom"]]


def test_clients_are_recognized_by_the_names_of_their_pods() -> None:
    [clients] = [each for each in OURS if each["metadata"]["name"] == "client"]
    [accounts] = [each for each in OURS if each["metadata"]["name"] == "accounts"]
    pattern = container(accounts)["args"][-1]
    assert clients["kind"] == "StatefulSet"
    service = clients["spec"]["serviceName"]
    found = re.match(pattern, f"client-12.{service}.fedmq.svc.cluster.local")
    assert found is not None and found[1] == "12"
    for other in ("combiner-0.combiner.fedmq.svc.cluster.local", "client-1.evil.fedmq.svc.cluster.local"):
        assert re.match(pattern, other) is None
    [headless] = [each for each in MANIFESTS if (each["kind"], each["metadata"]["name"]) == ("Service", service)]
    assert headless["spec"]["publishNotReadyAddresses"] is True


def test_rabbitmq_is_set_as_in_compose() -> None:
    plugins, literal, definitions = next(
        each["literals"] for each in KUSTOMIZATION["configMapGenerator"] if each["name"] == "rabbitmq"
    )
    compose = FOLDER.parent / "compose"
    assert literal.splitlines() == ["50-fedmq.conf=", *settings(compose / "rabbitmq.conf")]
    assert definitions == "60-fedmq.conf=" + "\n".join(settings(compose / "definitions.conf"))
    assert plugins == "enabled_plugins=" + (compose / "enabled_plugins").read_text().strip()


def settings(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def test_every_role_has_probes_and_runs_without_root_or_capabilities() -> None:
    assert {each["metadata"]["name"] for each in OURS} == {"reducer", "combiner", "client", "dashboard", "accounts"}
    for workload in OURS:
        ours = container(workload)
        assert ours["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert workload["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
        if workload["metadata"]["name"] == "accounts":
            continue
        assert ours["livenessProbe"]["httpGet"] == {"path": "/health", "port": "health"}
        # A page that reports what is wrong has to stay reachable.
        path = "/health" if workload["metadata"]["name"] in ("reducer", "dashboard") else "/ready"
        assert ours["readinessProbe"]["httpGet"] == {"path": path, "port": "health"}
        known = {variable.name for variable in variables()}
        assert {each["name"].removesuffix("_FILE") for each in ours.get("env", ())} <= known


def test_rabbitmqs_own_exporter_is_on_and_can_be_scraped() -> None:
    broker, service = (each for each in MANIFESTS if each["metadata"]["name"] == "rabbitmq")
    assert {"name": "metrics", "containerPort": 15692} in container(broker)["ports"]
    assert {"name": "metrics", "port": 15692, "targetPort": "metrics"} in service["spec"]["ports"]
    mounted = {each["mountPath"]: each["subPath"] for each in container(broker)["volumeMounts"] if "subPath" in each}
    assert mounted["/etc/rabbitmq/enabled_plugins"] == "enabled_plugins"


def test_a_client_gets_no_credentials_of_the_stores() -> None:
    [client] = [each for each in OURS if each["metadata"]["name"] == "client"]
    assert [source for source in container(client)["envFrom"] if "secretRef" in source] == []


def test_combiners_are_scaled_by_the_depth_of_combiners_inboxes_and_of_no_other_queue() -> None:
    [scaled] = [each for each in MANIFESTS if each["kind"] == "ScaledObject"]
    [trigger] = scaled["spec"]["triggers"]
    target = scaled["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) in {(each["kind"], each["metadata"]["name"]) for each in OURS}
    topology = Topology("fedmq")
    assert re.search(trigger["metadata"]["queueName"], topology.combiner("combiner-3").name)
    for queue in (topology.reducer(), topology.client("combiner"), topology.records(), topology.dead()):
        assert not re.search(trigger["metadata"]["queueName"], queue.name)
    replicas = "replicas" in next(each for each in OURS if each["metadata"]["name"] == "combiner")["spec"]
    assert not replicas, "a count of its own would undo the scaling at every apply"

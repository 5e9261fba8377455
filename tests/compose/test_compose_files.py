"""What the compose files say, read without an engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from fedmq.process.settings import ClientSettings, variables

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "compose"
FILES = [FOLDER / f"{name}.yaml" for name in ("docker-compose", "reducer", "combiner", "mnist-clients")]
ORIGINAL = {
    "ALLIANCE_UID": "ac435faef-c2df-442e-b349-7f633d3d5523",
    "FEDN_REDUCER_HOST": "reducer",
    "FEDN_REDUCER_PORT": "8090",
    "FEDN_MONGO_USER": "fedn_admin",
    "FEDN_MONGO_PASSWORD": "password",
    "FEDN_MONGO_HOST": "mongo",
    "FEDN_MONGO_PORT": "27017",
    "FEDN_ME_USERNAME": "fedn_admin",
    "FEDN_ME_PASSWORD": "password",
    "FEDN_MINIO_HOST": "minio",
    "FEDN_MINIO_PORT": "9000",
    "FEDN_MINIO_ACCESS_KEY": "fedn_admin",
    "FEDN_MINIO_SECRET_KEY": "password",
    "FEDN_DASHBOARD_HOST": "dashboard",
    "FEDN_DASHBOARD_PORT": "5111",
    "EXAMPLE": "mnist",
    "CLIENT_NAME_BASE": "client-fedn1-",
}


def services(path: Path) -> dict[str, Any]:
    """The services of a file, each with what it extends."""
    found: dict[str, Any] = yaml.safe_load(path.read_text())["services"]
    for name, service in found.items():
        base = service.pop("extends", None)
        if base is not None:
            found[name] = services(path.parent / base["file"])[base["service"]] | service
    return found


def example_values() -> dict[str, str]:
    lines = (FOLDER / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_a_file_that_starts_alone_names_no_service_of_another() -> None:
    for path in FILES:
        own = services(path)
        for service in own.values():
            assert set(service.get("depends_on", ())) <= set(own), path


def test_the_stack_waits_for_health_and_names_only_services_that_there_are() -> None:
    known = {name for path in FILES for name in services(path)}
    for name, service in services(FOLDER / "stack.yaml").items():
        assert name in known | {"seed"}
        assert set(service["depends_on"]) <= known
        assert all(each == {"condition": "service_healthy"} for each in service["depends_on"].values())


def test_the_root_file_starts_the_same_services_and_volumes_as_deploy_compose() -> None:
    root, folder = (yaml.safe_load(path.read_text()) for path in (ROOT / "docker-compose.yaml", FILES[0]))
    assert set(root["services"]) == set(folder["services"])
    assert root["volumes"] == folder["volumes"]
    for name, service in root["services"].items():
        assert service["extends"] == {"file": "deploy/compose/docker-compose.yaml", "service": name}


def test_every_service_restarts_and_no_image_floats() -> None:
    for path in FILES:
        for name, service in services(path).items():
            assert service["restart"] == "unless-stopped", name
            image = service["image"]
            assert "build" in service or re.fullmatch(r"\$\{\w+_IMAGE:-[\w/-]+:(?!latest)[\w.-]+\}", image), image


def test_ports_are_the_promised_ones_and_this_machines_alone_unless_told_otherwise() -> None:
    published = [port for path in FILES for service in services(path).values() for port in service.get("ports", ())]
    assert all(port.startswith("${FEDN_PUBLISH:-127.0.0.1}:") for port in published)
    numbers = {int(re.findall(r"\d+", port)[-1]) for port in published}
    assert numbers == {5672, 15672, 15692, 9000, 9001, 27017, 8081, 5111, 8090}


def test_a_standby_is_a_reducer_that_publishes_no_port() -> None:
    standby, reducer = services(FOLDER / "standby.yaml")["standby"], services(FOLDER / "reducer.yaml")["reducer"]
    assert "ports" not in standby
    assert standby | {"ports": reducer["ports"]} == reducer


def test_compose_does_not_advise_to_remove_the_containers_of_the_other_files() -> None:
    assert example_values()["COMPOSE_IGNORE_ORPHANS"] == "true"


def test_rabbitmqs_own_exporter_is_on() -> None:
    broker = services(FILES[0])["rabbitmq"]
    assert "./enabled_plugins:/etc/rabbitmq/enabled_plugins:ro" in broker["volumes"]
    assert (FOLDER / "enabled_plugins").read_text() == "[rabbitmq_management,rabbitmq_prometheus].\n"


def test_every_role_serves_its_metrics_to_other_containers_and_to_nobody_else() -> None:
    roles = [service for path in FILES for service in services(path).values() if "build" in service]
    assert len(roles) == 4
    for role in roles:
        assert role["environment"]["FEDN_HEALTH_BIND"] == "0.0.0.0"
        assert not any(port.endswith(":8080") for port in role.get("ports", ()))


def test_the_example_environment_has_fedns_variables_and_the_values_that_hold_without_it() -> None:
    values = example_values()
    assert ORIGINAL.items() <= values.items()
    texts = "\n".join(path.read_text() for path in [*FILES, FOLDER / "stack.yaml"])
    defaults: dict[str, set[str]] = {}
    for name, default in re.findall(r"\$\{(\w+):?-([^}]*)\}", texts):
        defaults.setdefault(name, set()).add(default)
    for name, found in defaults.items():
        assert len(found) == 1, f"{name} has several defaults: {found}"
        if name in values and name not in ("ALLIANCE_UID", "CLIENT_NAME_BASE"):
            assert {values[name]} == found, name


def test_user_and_password_of_every_service_reach_the_roles_that_use_them() -> None:
    found = {name: service["environment"] for path in FILES for name, service in services(path).items()}
    for role in ("reducer", "dashboard"):
        assert found[role]["FEDN_MONGO_USER"] == found["mongo"]["MONGO_INITDB_ROOT_USERNAME"]
        assert found[role]["FEDN_MONGO_PASSWORD"] == found["mongo"]["MONGO_INITDB_ROOT_PASSWORD"]
    for role in ("reducer", "combiner"):
        keys = found[role]["FEDN_MINIO_ACCESS_KEY"], found[role]["FEDN_MINIO_SECRET_KEY"]
        assert keys == (found["minio"]["MINIO_ROOT_USER"], found["minio"]["MINIO_ROOT_PASSWORD"])
    values = example_values()
    account = f"amqp://{values['RABBITMQ_DEFAULT_USER']}:{values['RABBITMQ_DEFAULT_PASS']}@"
    assert values["FEDN_AMQP_URL"].startswith(account)


def test_a_client_is_given_no_credentials_of_stores_and_every_variable_means_something() -> None:
    client = services(FOLDER / "mnist-clients.yaml")["client"]["environment"]
    own = {field.alias for field in ClientSettings.model_fields.values()}
    assert set(client) <= own
    known = {variable.name for variable in variables()}
    for path in FILES:
        for service in services(path).values():
            assert {name for name in service["environment"] if name.startswith("FEDN_")} <= known


def test_every_role_sees_certificates_and_the_reducer_alone_its_key() -> None:
    found = {name: service for path in FILES for name, service in services(path).items()}
    for role in ("reducer", "combiner", "client", "dashboard"):
        assert found[role]["environment"]["FEDN_CA_FILE"] == "${FEDN_CA_FILE:-}"
        assert "./certs:/certs:ro" in found[role]["volumes"]
    assert [name for name, each in found.items() if "keys" in str(each.get("volumes"))] == ["reducer"]
    seed = services(FOLDER / "stack.yaml")["seed"]
    assert seed["environment"]["FEDN_REDUCER_TLS_CERT"] == found["reducer"]["environment"]["FEDN_REDUCER_TLS_CERT"]
    assert seed["volumes"] == ["./certs:/certs:ro"]


def test_every_example_has_what_an_image_of_it_is_made_of() -> None:
    dockerfile = (FOLDER / "Dockerfile").read_text()
    named = re.findall(r"\w+", re.search(r"# A folder of examples/: (.*)", (FOLDER / ".env.example").read_text())[1])  # type: ignore[index]
    for example in set(named) - {"or"}:
        assert (ROOT / "examples" / example / "client" / "fedn.yaml").is_file(), example
    assert "examples/${EXAMPLE} /examples/${EXAMPLE}" in dockerfile

"""What the compose files say, read without an engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from fedmq.process.settings import ClientSettings, variables
from fedmq_cli.deployment.given import GivenSecrets
from fedmq_cli.deployment.secret_store import Passwords, secret_files

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "compose"
FILES = [FOLDER / f"{name}.yaml" for name in ("docker-compose", "reducer", "combiner", "mnist-clients")]
ROLES = ("reducer", "combiner", "client", "dashboard")
ORIGINAL = {
    "ALLIANCE_UID": "ac435faef-c2df-442e-b349-7f633d3d5523",
    "FEDN_REDUCER_HOST": "reducer",
    "FEDN_REDUCER_PORT": "8090",
    "FEDN_MONGO_USER": "fedn_admin",
    "FEDN_MONGO_HOST": "mongo",
    "FEDN_MONGO_PORT": "27017",
    "FEDN_ME_USERNAME": "fedn_admin",
    "FEDN_MINIO_HOST": "minio",
    "FEDN_MINIO_PORT": "9000",
    "FEDN_MINIO_ACCESS_KEY": "fedn_admin",
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
        for base, condition in service["depends_on"].items():
            ends = "service_completed_successfully" if base == "secrets" else "service_healthy"
            assert condition == {"condition": ends}


def test_the_root_file_starts_the_same_services_and_volumes_as_deploy_compose() -> None:
    root, folder = (yaml.safe_load(path.read_text()) for path in (ROOT / "docker-compose.yaml", FILES[0]))
    assert set(root["services"]) == set(folder["services"])
    assert root["volumes"] == folder["volumes"]
    for name, service in root["services"].items():
        assert service["extends"] == {"file": "deploy/compose/docker-compose.yaml", "service": name}


def test_every_service_restarts_and_no_image_floats() -> None:
    for path in FILES:
        for name, service in services(path).items():
            assert service.get("restart") == (None if name == "secrets" else "unless-stopped"), name
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
    assert standby | {"ports": reducer["ports"], "depends_on": reducer["depends_on"]} == reducer


def test_compose_does_not_advise_to_remove_the_containers_of_the_other_files() -> None:
    assert example_values()["COMPOSE_IGNORE_ORPHANS"] == "true"


def test_rabbitmqs_own_exporter_is_on() -> None:
    broker = services(FILES[0])["rabbitmq"]
    assert "./enabled_plugins:/etc/rabbitmq/enabled_plugins:ro" in broker["volumes"]
    assert (FOLDER / "enabled_plugins").read_text() == "[rabbitmq_management,rabbitmq_prometheus].\n"


def test_every_role_serves_its_metrics_to_other_containers_and_to_nobody_else() -> None:
    roles = [role for path in FILES for name, role in services(path).items() if name in ROLES]
    assert len(roles) == 4
    for role in roles:
        assert role["environment"]["FEDN_HEALTH_BIND"] == "0.0.0.0"
        assert not any(port.endswith(":8080") for port in role.get("ports", ()))


def test_the_example_environment_has_fedns_variables_and_the_values_that_hold_without_it() -> None:
    values = example_values()
    assert ORIGINAL.items() <= values.items()
    texts = "\n".join(path.read_text() for path in FOLDER.glob("*.yaml"))
    defaults: dict[str, set[str]] = {}
    for name, default in re.findall(r"\$\{(\w+):?-([^}]*)\}", texts):
        defaults.setdefault(name, set()).add(default)
    for name, found in defaults.items():
        assert len(found) == 1, f"{name} has several defaults: {found}"
        if name in values and name not in ("ALLIANCE_UID", "CLIENT_NAME_BASE"):
            assert {values[name]} == found, name


SECRETS = "/run/secrets/fedmq"


def own_secrets(service: dict[str, Any]) -> str | None:
    """Returns the folder of `secrets` that a service sees, None if it sees none."""
    mounted = [each.removesuffix(":ro") for each in service.get("volumes", ()) if each.startswith("./secrets")]
    assert len(mounted) <= 1
    return mounted[0].partition(":")[0].removeprefix("./secrets").strip("/") if mounted else None


def test_a_container_sees_the_secrets_of_its_own_and_a_client_sees_none() -> None:
    found = {name: own_secrets(service) for path in FILES for name, service in services(path).items()}
    found |= {"seed": own_secrets(services(FOLDER / "stack.yaml")["seed"])}
    servers = ("rabbitmq", "minio", "mongo", "mongo-express")
    expected: dict[str, str | None] = {name: name for name in (*servers, "reducer", "combiner", "dashboard", "seed")}
    assert found == expected | {"accounts": "admin", "client": None, "secrets": ""}


def test_each_file_of_a_secret_that_a_container_reads_is_one_that_is_made_for_it(tmp_path: Path) -> None:
    given = GivenSecrets.model_validate({"FEDN_AMQP_URL": "amqp://rabbitmq:5672/"})
    made = {(each.container, each.name) for each in secret_files(given, Passwords({}))}
    read = set()
    for path in [*FILES, FOLDER / "stack.yaml"]:
        for service in services(path).values():
            for name in re.findall(rf"{SECRETS}/(\w+)", str(service)):
                read.add((own_secrets(service), name))
    assert read <= made
    assert made - read == {
        ("admin", "password"),  # for people
        ("rabbitmq", "definitions.json"),  # is in another folder
        *((role, "admin_token") for role in ("reducer", "dashboard", "seed")),  # if FEDN_ADMIN_TOKEN_FILE names it
        *((role, "health_token") for role in ("reducer", "combiner", "dashboard", "client")),  # for Kubernetes
        ("monitor", "management_url"),  # likewise
    }


def test_no_password_is_in_the_compose_files_nor_in_the_environment_of_a_server() -> None:
    for path in [*FOLDER.glob("*.yaml"), FOLDER / ".env.example"]:
        given = re.findall(r"(?im)^\s*(\w*(?:PASSWORD|PASS|SECRET_KEY|TOKEN)) *[:=] *([^\s#]+)", path.read_text())
        assert all(value == f"${{{name}:-}}" for name, value in given), (path, given)
    for path in FILES:
        for name, service in services(path).items():
            passed = {key for key in service.get("environment", ()) if re.search(r"PASS|SECRET|TOKEN|_URL$", key)}
            passed = {key for key in passed if not key.endswith("_FILE")}
            if name != "secrets":
                assert passed <= {"FEDN_ADMIN_TOKEN", "FEDN_HEALTH_TOKEN", "FEDN_AMQP_URL", *NOT_SECRET}, name


NOT_SECRET = {
    "FEDN_MINIO_PUBLIC_URL",
    "FEDN_RABBITMQ_MANAGEMENT_URL",
    "FEDN_TRACES_URL",
    "MINIO_BROWSER_REDIRECT_URL",
}


def test_a_client_is_given_no_credentials_of_stores_and_every_variable_means_something() -> None:
    client = services(FOLDER / "mnist-clients.yaml")["client"]["environment"]
    own = {field.alias for field in ClientSettings.model_fields.values()}
    assert set(client) <= own
    known = {variable.name for variable in variables()}
    for path in FILES:
        for service in services(path).values():
            given = {name for name in service.get("environment", ()) if name.startswith("FEDN_")}
            assert given <= known | {f"{name}_FILE" for name in known}


def test_every_role_sees_certificates_and_the_reducer_alone_its_key() -> None:
    found = {name: service for path in FILES for name, service in services(path).items()}
    for role in ("reducer", "combiner", "client", "dashboard"):
        assert found[role]["environment"]["FEDN_CA_FILE"] == "${FEDN_CA_FILE:-}"
        assert "./certs:/certs:ro" in found[role]["volumes"]
    assert [name for name, each in found.items() if "keys" in str(each.get("volumes"))] == ["reducer"]
    seed = services(FOLDER / "stack.yaml")["seed"]
    assert seed["environment"]["FEDN_REDUCER_TLS_CERT"] == found["reducer"]["environment"]["FEDN_REDUCER_TLS_CERT"]
    assert seed["volumes"] == ["./certs:/certs:ro", f"./secrets/seed:{SECRETS}:ro"]


def test_every_example_has_what_an_image_of_it_is_made_of() -> None:
    dockerfile = (FOLDER / "Dockerfile").read_text()
    named = re.findall(r"\w+", re.search(r"# A folder of examples/: (.*)", (FOLDER / ".env.example").read_text())[1])  # type: ignore[index]
    for example in set(named) - {"or"}:
        assert (ROOT / "examples" / example / "client" / "fedn.yaml").is_file(), example
    assert "examples/${EXAMPLE} /examples/${EXAMPLE}" in dockerfile

"""The settings of each role: a frozen class whose fields' aliases are the variables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from fedmq.process.settings import types as forms
from fedmq.process.settings.base import Settings
from fedmq_schemas.messages import Name, Weight


class TrustSettings(Settings):
    """The authorities that a process trusts over TLS."""

    ca_file: forms.CaFile = None


class AllianceSettings(TrustSettings):
    """Settings of every role: the alliance and its broker."""

    alliance: Name = Field(
        "fedmq", alias="ALLIANCE_UID", description="the alliance; begins all queue names: letters, digits, - and _"
    )
    amqp_url: forms.BrokerUrl = Field(
        SecretStr("amqp://guest:guest@localhost:5672/"),
        alias="FEDN_AMQP_URL",
        description="the broker: amqp[s]://user:password@host:port/vhost",
    )
    presence: float = Field(
        10.0,
        alias="FEDN_PRESENCE",
        gt=0,
        le=3600,
        description="seconds between presence messages; after three silent periods a peer counts as vanished",
    )
    state_dir: Path = Field(Path(".fedmq"), alias="FEDN_STATE_DIR", description="folder of this process's own state")
    log_level: str = Field("info", alias="FEDN_LOG_LEVEL", description="debug, info, warning or error")
    health_port: forms.Port | None = Field(
        None, alias="FEDN_HEALTH_PORT", description="port of /health and /metrics; none: not served"
    )
    health_bind: str = Field(
        "127.0.0.1", alias="FEDN_HEALTH_BIND", description="address that /health and /metrics are served on"
    )
    health_token: SecretStr | None = Field(
        None,
        alias="FEDN_HEALTH_TOKEN",
        description="token that /metrics needs beyond this machine, and that opens nothing else; none: FEDN_ADMIN_TOKEN",
    )
    published_on: forms.PublishedOn = None

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.lower() not in ("debug", "info", "warning", "error"):
            raise ValueError("must be debug, info, warning or error")
        return value.lower()


class ManagementSettings(AllianceSettings):
    """The address of RabbitMQ's management API, and the address that a client with a new account is given."""

    management_url: forms.ManagementUrl = None
    minio_public_url: forms.PublicUrl = None


class BlobSettings(TrustSettings):
    """The S3 server: MinIO or any other."""

    minio_host: forms.Host = Field("localhost", alias="FEDN_MINIO_HOST", description="host of the S3 server")
    minio_port: forms.Port = Field(9000, alias="FEDN_MINIO_PORT", description="port of the S3 server")
    minio_tls: bool = Field(False, alias="FEDN_MINIO_TLS", description="whether the S3 server uses https")
    minio_access_key: str = Field("minioadmin", alias="FEDN_MINIO_ACCESS_KEY", description="account at the S3 server")
    minio_secret_key: SecretStr = Field(
        SecretStr("minioadmin"), alias="FEDN_MINIO_SECRET_KEY", description="password of that account"
    )
    minio_region: str = Field("us-east-1", alias="FEDN_MINIO_REGION", description="region that requests are signed for")
    minio_bucket_prefix: str = Field(
        "",
        alias="FEDN_MINIO_BUCKET_PREFIX",
        pattern=r"^([a-z0-9][a-z0-9.-]{0,40})?$",
        description="begins the bucket names 'models' and 'updates'",
    )
    minio_public_url: forms.PublicUrl = None


class RecordSettings(AllianceSettings):
    """The MongoDB server; its database has the alliance's name."""

    mongo_host: str = Field(
        "localhost", alias="FEDN_MONGO_HOST", description="host of MongoDB, or host:port,host:port of a replica set"
    )
    mongo_port: forms.Port = Field(
        27017, alias="FEDN_MONGO_PORT", description="port of MongoDB, if the host names none"
    )
    mongo_user: str | None = Field(
        None, alias="FEDN_MONGO_USER", description="account at MongoDB; none: no authentication"
    )
    mongo_password: SecretStr | None = Field(None, alias="FEDN_MONGO_PASSWORD", description="password of that account")
    mongo_tls: forms.MongoTls = False
    mongo_url: forms.MongoUrl = None
    mongo_connections: int = Field(
        8, alias="FEDN_MONGO_CONNECTIONS", ge=1, le=100, description="most connections that a process opens to MongoDB"
    )


class ControlSettings(TrustSettings):
    """The address of the reducer's REST API, and its token."""

    reducer_host: str = Field("localhost", alias="FEDN_REDUCER_HOST", description="host where others reach the reducer")
    reducer_port: forms.Port = Field(
        8090, alias="FEDN_REDUCER_PORT", description="port of the reducer's page and REST API"
    )
    admin_token: SecretStr | None = Field(
        None,
        alias="FEDN_ADMIN_TOKEN",
        description="token that changes need, and beyond this machine every request but /health and /ready, also at the "
        "dashboard; none: everybody on this machine may change",
    )
    reducer_tls_cert: Path | None = Field(
        None,
        alias="FEDN_REDUCER_TLS_CERT",
        description="PEM file: the reducer serves https with this certificate, and its callers trust only this one; "
        "none: http",
    )


class ReducerSettings(RecordSettings, ManagementSettings, BlobSettings, ControlSettings):
    """Settings of a reducer."""

    traces_url: forms.TracesUrl = None
    reducer_bind: str = Field("127.0.0.1", alias="FEDN_REDUCER_BIND", description="address that the reducer listens on")
    reducer_tls_key: Path | None = Field(
        None, alias="FEDN_REDUCER_TLS_KEY", description="PEM file of the certificate's key; none: in the same file"
    )
    seed_limit: int = Field(
        2048, alias="FEDN_SEED_LIMIT", ge=1, description="size of the largest seed that may be uploaded, in MB"
    )
    partitions: int | None = Field(
        None,
        alias="FEDN_PARTITIONS",
        ge=1,
        description="number of parts that a common data set is cut into; none: as many as there are clients",
    )
    inbox_days: forms.InboxDays = 7.0
    record_days: forms.RecordDays = None


class CombinerSettings(AllianceSettings, BlobSettings):
    """Settings of a combiner."""

    traces_url: forms.TracesUrl = None
    combiner_name: Name | None = Field(
        None,
        alias="FEDN_COMBINER_NAME",
        description="id of the combiner; none: drawn once and kept in its state folder",
    )


class ClientSettings(AllianceSettings):
    """Settings of a client."""

    traces_url: forms.TracesUrl = None
    client_name: Name | None = Field(
        None, alias="FEDN_CLIENT_NAME", description="id of the client; none: drawn once and kept in its state folder"
    )
    client_name_base: Name = Field("client", alias="CLIENT_NAME_BASE", description="begins the name that is drawn")
    client_labels: forms.Labels = Field(
        default_factory=dict,
        alias="FEDN_CLIENT_LABELS",
        description="labels that others see and policies select by: site=north,kind=mri",
    )
    client_tasks: forms.TaskNames = Field(
        ("train", "validate"),
        alias="FEDN_CLIENT_TASKS",
        description="tasks that the client runs: train,validate; an evaluator: validate",
    )
    client_device: str = Field(
        "auto", alias="FEDN_CLIENT_DEVICE", pattern=r"^(auto|cpu|\d+(,\d+)*)$", description="auto, cpu, 0, or 0,1"
    )
    client_weight: Weight = Field(
        1, alias="FEDN_CLIENT_WEIGHT", description="announced number of examples; scales the first round's sums"
    )
    error_detail: forms.ErrorDetailName = "frames"
    minio_public_url: forms.PublicUrl = None
    data_path: Path | None = Field(None, alias="FEDN_DATA_PATH", description="the client's private data")
    package: Path = Field(Path("."), alias="FEDN_PACKAGE", description="folder with fedn.yaml")
    package_form: Literal["trainer", "commands"] | None = Field(
        None,
        alias="FEDN_PACKAGE_FORM",
        description="form of the package: trainer or commands; none: the trainer, if the package has one",
    )
    package_env: bool = Field(
        True, alias="FEDN_PACKAGE_ENV", description="whether commands run in the environment of python_env.yaml"
    )
    dirichlet: float | None = Field(
        None,
        alias="FEDN_DIRICHLET",
        gt=0,
        description="label skew of the parts of a common data set, smaller is more; none: equal parts",
    )
    personal_days: float = Field(
        30.0,
        alias="FEDN_PERSONAL_DAYS",
        ge=0,
        description="days that local tensors and `task.state` are kept; 0: none is",
    )
    personal_sessions: int = Field(
        3,
        alias="FEDN_PERSONAL_SESSIONS",
        ge=0,
        description="number of sessions whose local tensors and `task.state` are kept",
    )


class DashboardSettings(RecordSettings, ControlSettings):
    """Settings of a dashboard."""

    dashboard_host: str = Field(
        "localhost", alias="FEDN_DASHBOARD_HOST", description="host where others reach the dashboard"
    )
    dashboard_port: forms.Port = Field(5111, alias="FEDN_DASHBOARD_PORT", description="port of the dashboard")
    dashboard_bind: str = Field(
        "127.0.0.1", alias="FEDN_DASHBOARD_BIND", description="address that the dashboard listens on"
    )


ROLES: Mapping[str, type[Settings]] = {
    "reducer": ReducerSettings,
    "combiner": CombinerSettings,
    "client": ClientSettings,
    "dashboard": DashboardSettings,
    "control": ControlSettings,
}

"""What an operator gives of a deployment's secrets. What is not given is made at the first start."""

from __future__ import annotations

from urllib.parse import quote, unquote, urlsplit

from pydantic import Field, SecretStr

from fedmq.brokers.rabbitmq.management import PORT
from fedmq.errors import ConfigError
from fedmq.process.exposure import KNOWN
from fedmq.process.settings import AllianceSettings
from fedmq.web.access import is_loopback


class GivenSecrets(AllianceSettings):
    """The variables of `deploy/compose/.env`. `FEDN_AMQP_URL` may name an account, which all roles then use.

    The account `guest` with the password `guest`, which the default of `FEDN_AMQP_URL` names, is none of these.
    """

    administrator: str = Field("fedmq", alias="RABBITMQ_DEFAULT_USER", description="RabbitMQ's administrator")
    administrator_password: SecretStr | None = Field(
        None, alias="RABBITMQ_DEFAULT_PASS", description="password of RabbitMQ's administrator; none: made"
    )
    minio_secret_key: SecretStr | None = Field(
        None, alias="FEDN_MINIO_SECRET_KEY", description="password of the account at the S3 server; none: made"
    )
    mongo_host: str = Field("mongo", alias="FEDN_MONGO_HOST", description="host of MongoDB")
    mongo_port: int = Field(27017, alias="FEDN_MONGO_PORT", description="port of MongoDB, if the host names none")
    mongo_tls: bool = Field(False, alias="FEDN_MONGO_TLS", description="whether MongoDB speaks TLS")
    mongo_user: str | None = Field(None, alias="FEDN_MONGO_USER", description="account at MongoDB; none: no account")
    mongo_password: SecretStr | None = Field(
        None, alias="FEDN_MONGO_PASSWORD", description="password of the account at MongoDB; none: made"
    )
    mongo_url: SecretStr | None = Field(None, alias="FEDN_MONGO_URL", description="all of MongoDB in one")
    page_password: SecretStr | None = Field(
        None, alias="FEDN_ME_PASSWORD", description="password of the Mongo Express page; none: made"
    )
    admin_token: SecretStr | None = Field(
        None, alias="FEDN_ADMIN_TOKEN", description="token of the REST API; none: made, and needed if it is named"
    )
    publish: str = Field("127.0.0.1", alias="FEDN_PUBLISH", description="address that ports are published on")
    is_token_needed: str | None = Field(
        None, alias="FEDN_ADMIN_TOKEN_FILE", description="where the reducer finds its token; none: it needs none"
    )

    def secrets(self) -> dict[str, str]:
        """Returns the secrets that are given, by their variables."""
        account = urlsplit(self._broker()).password
        fields = {
            name: field for name, field in type(self).model_fields.items() if "SecretStr" in str(field.annotation)
        }
        given = {str(field.alias): getattr(self, name) for name, field in fields.items() if name != "amqp_url"}
        found = {name: value.get_secret_value() for name, value in given.items() if value is not None}
        return found if account is None else found | {"FEDN_AMQP_URL": unquote(account)}

    def check(self) -> None:
        """Raises ConfigError, with the remedy, if ports are published to others with a default or without a token."""
        if is_loopback(self.publish):
            return
        for variable, secret in self.secrets().items():
            if secret.lower() in KNOWN:
                raise ConfigError(
                    f"FEDN_PUBLISH={self.publish} opens the ports to other machines, and {variable} has a password that "
                    f"everybody knows: leave {variable} empty, and one is made, or give another"
                )
        if self.admin_token is None and self.is_token_needed is None:
            raise ConfigError(
                f"FEDN_PUBLISH={self.publish} opens the REST API to other machines, and it needs no token: set "
                "FEDN_ADMIN_TOKEN_FILE=/run/secrets/fedmq/admin_token, and one is made, or give FEDN_ADMIN_TOKEN"
            )

    def broker_url(self, account: str, password: str) -> str:
        """Returns the broker's URL for an account, or the given one if it names an account."""
        given = self._broker()
        if urlsplit(given).username is not None:
            return given
        return as_account(given, account, password)

    def _broker(self) -> str:
        """Returns the broker's URL, without the account of a fresh RabbitMQ, which other hosts can't use."""
        url = self.amqp_url.get_secret_value()
        parts = urlsplit(url)
        if (parts.username, parts.password) != ("guest", "guest"):
            return url
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def management_url(self, account: str, password: str) -> str:
        """Returns the URL of RabbitMQ's management API for an account."""
        host = urlsplit(self.amqp_url.get_secret_value()).hostname
        return as_account(f"http://{host}:{PORT}/", account, password)

    def records_url(self, password: str) -> str:
        """Returns the URL of MongoDB."""
        if self.mongo_url is not None:
            return self.mongo_url.get_secret_value()
        account = "" if self.mongo_user is None else f"{quote(self.mongo_user, safe='')}:{quote(password, safe='')}@"
        hosts = ",".join(each if ":" in each else f"{each}:{self.mongo_port}" for each in self.mongo_host.split(","))
        return f"mongodb://{account}{hosts}/{'?tls=true' if self.mongo_tls else ''}"


def as_account(url: str, user: str, password: str) -> str:
    """Returns the broker's URL with another account, or with one."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{authority.rpartition('@')[2]}{slash}{path}"

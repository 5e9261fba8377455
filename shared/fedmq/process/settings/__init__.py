"""Settings: environment variables and a `.env` file in the current folder, validated once, when a process starts.

Each role has a frozen class. A field's alias is its variable; its description states meaning and unit. FEDn's names are
kept, so an existing `.env` works unchanged. An empty value counts as unset, and the environment precedes the file. Secrets
are `SecretStr`, which no repr shows, and may be given as a file, see `secret_files`. Paths are absolute: a trainer may
change the process's current folder.
"""

from fedmq.process.settings.base import COMPOSE, Settings, given_variables, unknown_variables
from fedmq.process.settings.roles import (
    ROLES,
    AllianceSettings,
    BlobSettings,
    ClientSettings,
    CombinerSettings,
    ControlSettings,
    DashboardSettings,
    ManagementSettings,
    RecordSettings,
    ReducerSettings,
    TrustSettings,
)
from fedmq.process.settings.variables import Variable, secrets_hidden, variables, without_secrets

__all__ = [
    "COMPOSE",
    "ROLES",
    "AllianceSettings",
    "BlobSettings",
    "ClientSettings",
    "CombinerSettings",
    "ControlSettings",
    "DashboardSettings",
    "ManagementSettings",
    "RecordSettings",
    "ReducerSettings",
    "Settings",
    "TrustSettings",
    "Variable",
    "given_variables",
    "secrets_hidden",
    "unknown_variables",
    "variables",
    "without_secrets",
]

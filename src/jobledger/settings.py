"""Configuration of every role, read from the environment (`JOBLEDGER_…`, nested names with `__`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

#: The name of who has the key, and the SHA-256 of the key.
ApiKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}:[0-9a-f]{64}$")]
LIMIT = r"^([1-9][0-9]{0,8}/(second|minute|hour))?$"


class KafkaSettings(BaseSettings):
    """How to reach the Kafka cluster; names follow librdkafka's with dots as underscores."""

    model_config = SettingsConfigDict(env_prefix="JOBLEDGER_KAFKA_", extra="ignore")

    bootstrap_servers: str = Field(
        default="127.0.0.1:9092", min_length=1, description="host:port, several with commas."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How the brokers are talked to."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="With SASL_…: how the password is proved."
    )
    sasl_username: str = Field(default="", description="With SASL_…: who this is.")
    sasl_password: SecretStr = Field(default=SecretStr(""), description="With SASL_…: the password.")
    ssl_ca_location: str = Field(default="", description="File of the authority that signed the brokers' certificates.")
    ssl_certificate_location: str = Field(default="", description="File of this client's own certificate.")
    ssl_key_location: str = Field(default="", description="File of the key of that certificate.")
    ssl_key_password: SecretStr = Field(default=SecretStr(""), description="Password of that key.")
    replication_factor: int = Field(default=3, ge=1, le=9, description="Copies of new topics.")
    min_insync_replicas: int = Field(default=2, ge=1, le=9, description="Copies in sync that new topics insist on.")

    def client_config(self) -> dict[str, str | int | float | bool]:
        """The part of a librdkafka configuration that every client of ours shares."""
        config: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": self.security_protocol,
        }
        if self.security_protocol.startswith("SASL"):
            config["sasl.mechanism"] = self.sasl_mechanism
            config["sasl.username"] = self.sasl_username
            config["sasl.password"] = self.sasl_password.get_secret_value()
        if self.security_protocol.endswith("SSL"):
            tls = {
                "ssl.ca.location": self.ssl_ca_location,
                "ssl.certificate.location": self.ssl_certificate_location,
                "ssl.key.location": self.ssl_key_location,
                "ssl.key.password": self.ssl_key_password.get_secret_value(),
            }
            config.update({name: value for name, value in tls.items() if value})
        return config


class SecretStoreSettings(BaseSettings):
    """Where a worker's secrets come from; see docs/reference/secrets.md."""

    model_config = SettingsConfigDict(env_prefix="JOBLEDGER_SECRET_STORE_", extra="ignore")

    kind: Literal["none", "environment", "files", "vault"] = Field(
        default="none", description="Where secrets of a worker come from."
    )
    test_secret: str = Field(default="health", min_length=1, description="Name of the secret that health fetches.")
    prefix: str = Field(default="SECRET_", description="environment: what the variables begin with.")
    directory: str = Field(default="/etc/jobledger/secrets", description="files: below which they are mounted.")
    vault_url: str = Field(default="", description="vault: its address, such as https://vault:8200.")
    vault_mount: str = Field(default="secret", min_length=1, description="vault: path of the KV engine, version 2.")
    vault_namespace: str = Field(default="", description="vault: namespace, of Vault Enterprise and OpenBao.")
    vault_token: SecretStr = Field(default=SecretStr(""), description="vault: token.")
    vault_token_file: str = Field(
        default="", description="vault: file with the token, as an agent keeps it; read at each fetch, wins."
    )
    vault_ca_file: str = Field(default="", description="vault: file of the authority that signed its certificate.")
    timeout_seconds: float = Field(default=2.0, gt=0, le=60, description="vault: then it counts as away.")


class Settings(BaseSettings):
    """Everything a role can be told; each field is the environment variable `JOBLEDGER_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="JOBLEDGER_", extra="ignore")

    cell: str = Field(default="jobledger", pattern=r"^[a-z][a-z0-9-]{0,40}$", description="Prefix of every topic.")
    partitions: int = Field(default=16, ge=1, le=1024, description="Partitions of commands, events, state, outcomes.")
    dev: bool = Field(default=False, description="Relaxes the checks on replication; set by `jobledger dev`.")
    tenant: str = Field(
        default="default",
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="Whose jobs workers run and the api shows.",
    )

    host: str = Field(default="127.0.0.1", description="Address that every listener binds to.")
    api_port: int = Field(default=8080, ge=0, le=65535, description="GraphQL of an api.")
    health_port: int = Field(default=9090, ge=0, le=65535, description="Metrics and health of this process.")
    api_keys: Annotated[list[ApiKey], NoDecode] = Field(
        default_factory=list,
        description="Whose keys an api takes, as NAME:DIGEST of `jobledger keys create`; none: everybody may ask.",
    )
    api_tenant_limit: str = Field(
        default="", pattern=LIMIT, description="Requests of a tenant to each api, such as 1000/second; empty: no limit."
    )
    api_peer_limit: str = Field(
        default="",
        pattern=LIMIT,
        description="Requests of one address to each api, such as 50/second; empty: no limit.",
    )
    api_url: str = Field(default="http://127.0.0.1:8080", description="Where the client and the CLI find the api.")
    api_key: SecretStr = Field(
        default=SecretStr(""), description="The key that the client and the CLI show to the api."
    )

    postgres_dsn: SecretStr = Field(
        default=SecretStr("postgresql://127.0.0.1:5432/jobledger"), description="The database of the read models."
    )
    postgres_schema: str = Field(
        default="jobledger", pattern=r"^[a-z_][a-z0-9_]{0,40}$", description="Its schema; made when it does not exist."
    )

    instance_id: str = Field(default="", description="Stable slot name of this process, such as scheduler-1.")
    worker_pool: str = Field(
        default="default", pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="Group of workers, in metrics and views."
    )
    worker_slots: int = Field(default=8, ge=1, le=10_000, description="Tasks that a worker runs at the same time.")
    worker_queues: Annotated[list[str], NoDecode] = Field(
        default_factory=lambda: ["default"], description="Queues that a worker takes tasks from."
    )
    handlers: Annotated[list[str], NoDecode] = Field(default_factory=list, description="Python modules with handlers.")

    session_timeout_seconds: float = Field(default=10.0, ge=1, le=300, description="Scheduler group membership.")
    heartbeat_interval_seconds: float = Field(default=2.0, ge=0.1, le=60, description="Between heartbeats of a worker.")
    lease_seconds: float = Field(default=10.0, ge=1, le=600, description="A worker silent for longer is lost.")
    dedup_window_seconds: float = Field(default=86_400.0, ge=1, description="How long ended streams leave a stub.")
    max_clock_skew_seconds: float = Field(
        default=0.5, gt=0, description="A scheduler whose clock is further from the broker's opens nothing."
    )
    accept_new_topics: bool = Field(
        default=False, description="For one start after topics were restored from a copy: their new ids are right."
    )
    clock_offset_ms: int = Field(default=0, description="Moves the scheduler's clock; dev only.")
    clock_offset_file: str = Field(
        default="", description="File with a further offset in ms, read at each look at the clock; dev only."
    )
    mutation_timeout_seconds: float = Field(default=5.0, gt=0, le=60, description="Then a mutation answers PENDING.")

    log_level: Literal["DEBUG", "INFO", "WARN", "ERROR"] = Field(default="INFO", description="Least level logged.")

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    secret_store: SecretStoreSettings = Field(default_factory=SecretStoreSettings)

    @field_validator("worker_queues", "handlers", "api_keys", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        """Lists are written with commas: `JOBLEDGER_WORKER_QUEUES=default,emails`."""
        if isinstance(value, str):
            return [item.strip() for item in value.split(",") if item.strip()]
        return value

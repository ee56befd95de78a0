"""What `jobledger dev` can be told, and where everything of it listens."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MAX_INSTANCES = 9
"""Of each role: their ports are laid out in tens."""
MAX_APIS = 8
"""Their GraphQL ports share the first ten with Kafka and Postgres."""

MAX_PARTITIONS = 1024
PARTITIONS = 4

_ROLES = ("api", "scheduler", "projector", "worker")


class BadOptionError(ValueError):
    """An option that cannot work; the text is one sentence naming field, value and remedy."""


def role_of_this_installation(role: str) -> list[str]:
    """The command of one role of the installed product."""
    return [sys.executable, "-m", "jobledger.cli", role]


@dataclass(frozen=True, slots=True)
class DevOptions:
    """The options of `jobledger dev`; each default is what a bare `jobledger dev` does."""

    data_dir: Path = Path(".jobledger")
    ephemeral: bool = False
    """Keep nothing: a temporary directory takes the place of `data_dir`."""
    port_base: int = 8080
    apis: int = 1
    schedulers: int = 1
    projectors: int = 1
    workers: int = 1
    partitions: int | None = None
    """Of a new data directory, 4 unless given; one that has data keeps the number that it was made with."""
    handlers: tuple[str, ...] = ()
    ready_file: Path | None = None
    logs: Path | None = None
    """Where each role's lines go, as `<instance>.jsonl`; `logs` in the data directory unless given."""
    verbose: bool = False
    """Show the roles' logs on standard output too."""
    observe: bool = False
    """Prometheus and Alertmanager too, if they are installed."""
    restart: bool = True
    """Start a role again that ended by itself."""
    ready_timeout_seconds: float = 120.0
    environment: Mapping[str, str] = field(default_factory=dict)
    """More variables for the roles; they win over those that the supervisor sets."""
    role_command: Callable[[str], Sequence[str]] = role_of_this_installation

    def __post_init__(self) -> None:
        for name, count, most in (
            ("apis", self.apis, MAX_APIS),
            ("schedulers", self.schedulers, MAX_INSTANCES),
            ("projectors", self.projectors, MAX_INSTANCES),
            ("workers", self.workers, MAX_INSTANCES),
        ):
            if not 0 <= count <= most:
                raise BadOptionError(f"--{name} is {count}: choose 0 to {most}.")
        if self.partitions is not None and not 1 <= self.partitions <= MAX_PARTITIONS:
            raise BadOptionError(f"--partitions is {self.partitions}: choose 1 to {MAX_PARTITIONS}.")
        if not 0 < self.ready_timeout_seconds < float("inf"):
            raise BadOptionError(f"--ready-timeout is {self.ready_timeout_seconds:g}: choose seconds above 0.")
        span = 10 * (len(_ROLES) + 1) + self.observe
        highest = self.port_base + span
        if self.port_base < 1 or highest > 65_535:
            raise BadOptionError(f"--port-base is {self.port_base}: choose 1 to {65_535 - span}.")


@dataclass(frozen=True, slots=True)
class Instance:
    """One process of one role."""

    role: str
    number: int
    api_port: int
    """Where it serves GraphQL; 0 unless it is an api."""
    health_port: int

    @property
    def id(self) -> str:
        """Its stable slot name, such as `scheduler-1`."""
        return f"{self.role}-{self.number}"


@dataclass(frozen=True, slots=True)
class Layout:
    """Every port, counted from the port base (the figures in brackets are for 8080).

    +0 GraphQL of api-1, +1 Kafka, +2 Kafka's controller, +3 Postgres, +4 GraphQL of api-2, +5 of api-3 and so on.
    Metrics and health: api-n +10+n (api-1 8091), scheduler-n +20+n (8101), projector-n +30+n (8111),
    worker-n +40+n (8121). Prometheus +50 (8130), Alertmanager +51. A port never depends on how many instances there are
    of another role.
    """

    kafka: int
    controller: int
    postgres: int
    instances: tuple[Instance, ...]
    prometheus: int = 0
    alertmanager: int = 0
    """Both 0 unless they are asked for."""

    def named_ports(self) -> dict[int, str]:
        """Each port with what it is for."""
        ports = {self.kafka: "Kafka", self.controller: "Kafka's controller", self.postgres: "Postgres"}
        if self.prometheus:
            ports |= {self.prometheus: "Prometheus", self.alertmanager: "Alertmanager"}
        for instance in self.instances:
            if instance.api_port:
                ports[instance.api_port] = f"GraphQL of {instance.id}"
            ports[instance.health_port] = f"metrics and health of {instance.id}"
        return ports


def layout(options: DevOptions) -> Layout:
    """Where the stack of these options listens; it depends on nothing but them."""
    base = options.port_base
    counts = (options.apis, options.schedulers, options.projectors, options.workers)
    instances = [
        Instance(
            role=role,
            number=number,
            api_port=_api_port(base, number) if role == "api" else 0,
            health_port=base + 10 * (position + 1) + number,
        )
        for position, (role, count) in enumerate(zip(_ROLES, counts, strict=True))
        for number in range(1, count + 1)
    ]
    watchers = (base + 50, base + 51) if options.observe else (0, 0)
    return Layout(base + 1, base + 2, base + 3, tuple(instances), *watchers)


def _api_port(base: int, number: int) -> int:
    return base if number == 1 else base + 2 + number

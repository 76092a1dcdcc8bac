"""What every process is told from outside, by environment variables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.access.keys import service_key
from shared.clock import ClockMode
from shared.retained import Retained

PEPPER_LENGTH_MIN = 16


class Settings(BaseSettings):
    """Settings that all services share; each has its own subclass with its port and its choices."""

    model_config = SettingsConfigDict(env_prefix="DEAR_", populate_by_name=True, extra="ignore", frozen=True)

    kafka_bootstrap_servers: str = Field("127.0.0.1:9092", validation_alias="KAFKA_BOOTSTRAP_SERVERS")
    mongodb_uri: str = Field("mongodb://127.0.0.1:27017", validation_alias="MONGODB_URI")
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8080
    data_dir: Path = Path("var")
    clock: ClockMode = "live"
    reporting_currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "USD"
    identity_url: str = "http://127.0.0.1:8081"
    ingest_write_keys: Annotated[tuple[str, ...], NoDecode] = ()
    key_pepper: SecretStr | None = None
    """The secret that API keys are hashed with, and that services know each other by: the same for every process, and in no database."""
    master_key: SecretStr | None = None
    """Wraps the keys of what is sealed, and hashes what stands for erased references: the same for every process, in no database,
    and never changed."""
    log_level: str = "INFO"
    retention_days: Annotated[dict[Retained, Annotated[int, Field(ge=1, le=36_500)]], NoDecode] = Field(default_factory=dict)
    """How long each kind of data is kept; what is not named is kept for ever. The same for every service, which takes the kinds it has."""
    park_limit: Annotated[int, Field(ge=0)] = 500
    """More events than this parked within five minutes, and a tenth of all, stop the worker."""
    session_seconds: Annotated[float, Field(ge=1)] = 6.0
    """A worker that the broker has not heard of for so long loses its partitions."""
    stall_seconds: Annotated[float, Field(ge=5)] = 60.0
    """A worker that settles nothing for so long while there is something to settle leaves, to be started again."""

    @field_validator("ingest_write_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("retention_days", mode="before")
    @classmethod
    def _decode(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value) if value.strip() else {}
        except ValueError as error:
            raise ValueError(f'{value!r} is no JSON; kinds and days are expected, such as {{"interactions": 730}}') from error

    @field_validator("key_pepper", "master_key")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value().strip() if value else ""
        if text and len(text) < PEPPER_LENGTH_MIN:
            raise ValueError(f"has at least {PEPPER_LENGTH_MIN} characters, such as those of `openssl rand -hex 32`")
        return SecretStr(text) if text else None

    def credential(self, name: str) -> str | None:
        """How the service of that name names itself to another; None where nobody could check it."""
        return service_key(self.pepper, name) if self.pepper else None

    @property
    def master(self) -> bytes | None:
        """The master key's bytes."""
        return self.master_key.get_secret_value().encode() if self.master_key else None

    @property
    def pepper(self) -> bytes | None:
        """The pepper's bytes."""
        return self.key_pepper.get_secret_value().encode() if self.key_pepper else None

"""What notifications is told from outside."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, field_validator

from services.notifications.domain.policy import Cap, Rules
from services.notifications.domain.quiet_hours import QuietHours
from shared.settings import Settings

Count = Annotated[int, Field(ge=1)]


class NotificationsSettings(Settings):
    """The company's choices and its mail server; every field is an environment variable with the prefix `DEAR_`."""

    port: Annotated[int, Field(ge=1, le=65535)] = 8084
    public_url: str = "http://127.0.0.1:8084"
    """Where customers' mail programs reach this service: to unsubscribe, and past it to where links lead."""
    track_opens: bool = True
    """Is it noted that marketing mails are opened, and that links in them are followed?"""

    smtp_host: str = "127.0.0.1"
    smtp_port: Annotated[int, Field(ge=1, le=65535)] = 8025
    smtp_security: Literal["none", "starttls", "tls"] = "none"
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_connections: Annotated[int, Field(ge=1, le=64)] = 8
    """Open connections, which is also how many messages are claimed at a time."""
    smtp_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 10.0

    sender_name: str = "Your shop"
    sender_address: Annotated[str, Field(pattern=r"^[^@\s<>]+@[^@\s<>]+$")] = "hello@shop.example"

    quiet_hours: str = "21:00-08:00"
    """By each customer's own clock; a start equal to the end means none."""
    home_time_zone: str = "UTC"
    """The zone of customers whose own is not known."""
    email_cap_per_day: Count = 1
    marketing_cap_per_week: Count = 3
    unknown_customer_grace_seconds: Annotated[float, Field(ge=0)] = 30.0
    """How long an offer waits for a customer of whom nothing was published yet."""

    @field_validator("quiet_hours")
    @classmethod
    def _readable(cls, value: str) -> str:
        QuietHours.parse(value)
        return value

    @field_validator("home_time_zone")
    @classmethod
    def _known(cls, value: str) -> str:
        ZoneInfo(value)
        return value

    def rules(self) -> Rules:
        """The choices, as the gate reads them."""
        return Rules(
            quiet_hours=QuietHours.parse(self.quiet_hours),
            caps=(
                Cap("email", self.email_cap_per_day, timedelta(days=1)),
                Cap(None, self.marketing_cap_per_week, timedelta(days=7)),
            ),
            home_zone=ZoneInfo(self.home_time_zone),
            unknown_grace=timedelta(seconds=self.unknown_customer_grace_seconds),
        )

    def lease(self) -> timedelta:
        """How long a claim can be in use: addressing, delivering, and room for the database. After it the claimer is dead."""
        return timedelta(seconds=2 * self.smtp_timeout_seconds + 5)

"""The words: one text and one HTML file per template and language; the text file begins with the subject."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, select_autoescape

from services.notifications.links import web_address
from shared.contracts.interactions import Scalar

FALLBACK_LANGUAGE = "en"
SUBJECT = "Subject: "
BUDDHIST_ERA_YEARS = 543

_DIRECTORY = Path(__file__).parent
_MONTHS: Mapping[str, tuple[str, ...]] = {
    "en": ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"),
    "th": (
        "มกราคม", "กุมภาพันธ์", "มีนาคม", "เมษายน", "พฤษภาคม", "มิถุนายน",
        "กรกฎาคม", "สิงหาคม", "กันยายน", "ตุลาคม", "พฤศจิกายน", "ธันวาคม",
    ),
}  # fmt: skip


class CannotRender(Exception):
    """There is no such template, or it needs something that the offer does not carry."""


@dataclass(frozen=True, slots=True)
class Words:
    """Everything that a template may say."""

    shop: str
    first_name: str | None
    content: Mapping[str, Scalar]
    expires_on: date
    unsubscribe_url: str | None
    """Where marketing is ended with one click; None in service messages."""
    pixel_url: str | None = None
    """The picture whose loading tells that the mail was opened; None where that is not noted."""
    tracked: Callable[[str], str] | None = None
    """The way to a target by which it is noted that a link was followed; None where links lead there directly."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """One message in one language."""

    language: str
    subject: str
    text: str
    html: str


class Templates:
    """Every template there is, compiled once."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(_DIRECTORY),
            undefined=StrictUndefined,
            autoescape=select_autoescape(("html",)),
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        self._environment.filters["day"] = day_in_words
        files = [path.name.split(".") for path in sorted(_DIRECTORY.glob("*.*.txt"))]
        self.languages: Mapping[str, tuple[str, ...]] = {
            name: tuple(language for other, language, _ in files if other == name) for name, _, _ in files
        }

    def language_for(self, name: str, wanted: str | None) -> str:
        """The language that a customer will read: theirs (`th-TH` reads `th`) if the template is there in it, else English."""
        primary = (wanted or "").replace("_", "-").partition("-")[0].lower()
        return primary if primary in self.languages.get(name, ()) else FALLBACK_LANGUAGE

    def render(self, name: str, wanted_language: str | None, words: Words) -> Rendered:
        """Fill a template in. Raises CannotRender."""
        if name not in self.languages:
            raise CannotRender(f"there is no template {name!r}; there are {', '.join(self.languages)}")
        language = self.language_for(name, wanted_language)
        values = _values(words, language)
        try:
            text = self._environment.get_template(f"{name}.{language}.txt").render(values, link=web_address)
            subject, _, body = text.removeprefix(SUBJECT).partition("\n")
            html = self._environment.get_template(f"{name}.{language}.html").render(values, subject=subject, link=_way_to(words))
        except (TemplateError, TypeError, ValueError) as error:
            raise CannotRender(f"template {name!r} in {language!r}: {error}") from error
        return Rendered(language, " ".join(subject.split()), body.strip() + "\n", html)

    def page(self, name: str, wanted_language: str | None, **values: object) -> str:
        """A page of ours, such as the one behind an unsubscribe link, in the customer's language."""
        known = [path.name.split(".")[1] for path in _DIRECTORY.glob(f"{name}.*.html")]
        language = wanted_language if wanted_language in known else FALLBACK_LANGUAGE
        return self._environment.get_template(f"{name}.{language}.html").render(
            values, language=language, unsubscribe_url=None, pixel_url=None
        )


def day_in_words(day: date, language: str) -> str:
    """A day as people write it; Thai counts years in the Buddhist era."""
    year = day.year + (BUDDHIST_ERA_YEARS if language == "th" else 0)
    return f"{day.day} {_MONTHS.get(language, _MONTHS[FALLBACK_LANGUAGE])[day.month - 1]} {year}"


def _values(words: Words, language: str) -> dict[str, Any]:
    return {
        "language": language,
        "shop": words.shop,
        "first_name": words.first_name,
        "content": {name: value for name, value in words.content.items() if value is not None},
        "expires_on": words.expires_on,
        "unsubscribe_url": words.unsubscribe_url,
        "pixel_url": words.pixel_url,
    }


def _way_to(words: Words) -> Callable[[str], str]:
    """How links of the HTML part are written: past us where that may be noted. A plain text shows where it leads, so its links do."""
    tracked = words.tracked
    return web_address if tracked is None else lambda target: tracked(web_address(target))

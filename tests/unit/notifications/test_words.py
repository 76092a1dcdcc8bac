"""Templates, letters and links."""

from __future__ import annotations

import hmac
import html
from base64 import urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, date, datetime
from email import message_from_bytes, policy
from urllib.parse import parse_qs, urlsplit

import pytest

from services.notifications.domain.messages import Message, message_id
from services.notifications.domain.slices import slices
from services.notifications.letters import NotAnAddress, Sender, compose
from services.notifications.links import LONGEST_TARGET, BadToken, Links, NotALink, Use, message_of, token_for, web_address
from services.notifications.templates import CannotRender, Templates, Words, day_in_words

TEMPLATES = Templates()
AT = datetime(2017, 6, 1, 12, tzinfo=UTC)
WORDS = Words("Corner & Co", "Ada", {"discount_percent": 10, "points": 120}, date(2017, 6, 15), "https://x.example/u/1")


@pytest.mark.parametrize("name", ["welcome", "win_back"])
@pytest.mark.parametrize("language", ["en", "th"])
@pytest.mark.parametrize("bare", [False, True])
def test_every_template_says_something_with_and_without_content(name, language, bare):
    words = replace(WORDS, content={}, first_name=None, unsubscribe_url=None) if bare else WORDS
    mail = TEMPLATES.render(name, language, words)
    assert mail.language == language
    assert mail.subject
    assert "\n" not in mail.subject
    assert "{" not in mail.text + mail.html.partition("<body")[2]
    assert ("10%" in mail.text, "10%" in mail.html) == (not bare, not bare)
    assert ("https://x.example/u/1" in mail.text, "https://x.example/u/1" in mail.html) == (not bare, not bare)


def test_both_languages_have_every_template():
    assert TEMPLATES.languages == {"welcome": ("en", "th"), "win_back": ("en", "th")}


@pytest.mark.parametrize(("wanted", "got"), [("th", "th"), ("th-TH", "th"), ("TH_th", "th"), ("de", "en"), (None, "en"), ("", "en")])
def test_a_language_we_do_not_write_falls_back_to_english(wanted, got):
    assert TEMPLATES.render("welcome", wanted, WORDS).language == got


def test_html_is_escaped_and_text_is_not():
    mail = TEMPLATES.render("welcome", "en", replace(WORDS, first_name="<b>Ada</b>"))
    assert "<b>Ada</b>" not in mail.html
    assert "&lt;b&gt;Ada&lt;/b&gt;" in mail.html
    assert "<b>Ada</b>" in mail.text
    assert "Corner & Co" in mail.text
    assert "Corner &amp; Co" in mail.html


def test_a_template_that_does_not_exist_is_an_error_with_a_name():
    with pytest.raises(CannotRender, match="no template 'birthday'"):
        TEMPLATES.render("birthday", "en", WORDS)


def test_content_that_is_null_counts_as_absent():
    assert "None" not in TEMPLATES.render("win_back", "en", replace(WORDS, content={"discount_percent": None})).text


def test_thai_days_count_in_the_buddhist_era():
    assert day_in_words(date(2017, 6, 15), "th") == "15 มิถุนายน 2560"
    assert day_in_words(date(2017, 6, 15), "en") == "15 June 2017"


def letter(language="th", recipient="anong@example.com", link="https://x.example/u/1"):
    rendered = TEMPLATES.render("win_back", language, WORDS)
    sender = Sender("ร้านค้า", "hello@shop.example")
    written = compose(rendered, message_id="ab" * 16, sender=sender, recipient=recipient, at=AT, unsubscribe_url=link)
    return rendered, written, message_from_bytes(written.content, policy=policy.default)


def test_a_thai_mail_reads_back_as_it_was_written():
    rendered, written, mail = letter()
    written.content.decode("ascii")
    assert mail["Subject"] == rendered.subject
    assert mail["From"].addresses[0].display_name == "ร้านค้า"
    assert mail.get_body(("plain",)).get_content().replace("\r\n", "\n") == rendered.text
    assert mail.get_body(("html",)).get_content().replace("\r\n", "\n") == rendered.html
    assert mail["Content-Language"] == "th"


def test_the_message_id_derives_from_the_message():
    assert letter()[2]["Message-ID"] == f"<{'ab' * 16}@shop.example>"
    assert message_id("o1", "c1", "email") == message_id("o1", "c1", "email") != message_id("o1", "c1", "line")


def test_marketing_carries_the_one_click_way_out_and_service_messages_do_not():
    mail = letter()[2]
    assert mail["List-Unsubscribe"] == "<https://x.example/u/1>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert letter(link=None)[2]["List-Unsubscribe"] is None


@pytest.mark.parametrize("address", ["nobody", "a@b, c@d", "a@b\r\nBcc: x@y", "ผู้ใช้@example.com", "a b@example.com", "<a@example.com>"])
def test_what_is_not_an_address_is_refused(address):
    with pytest.raises(NotAnAddress):
        letter(recipient=address)


KEY, MESSAGE, SHOP = b"k" * 32, "ab" * 16, "https://shop.example/new?from=mail&x=1#top"


def test_a_link_names_its_message_and_cannot_be_made_up():
    token = token_for(Use.UNSUBSCRIBE, MESSAGE, KEY)
    assert message_of(Use.UNSUBSCRIBE, token, KEY) == MESSAGE
    others = token_for(Use.UNSUBSCRIBE, MESSAGE, b"x" * 32)
    for wrong in (token[:-4], token[:-1] + ("A" if token[-1] != "A" else "B"), "", "å", others, "abc"):
        with pytest.raises(BadToken):
            message_of(Use.UNSUBSCRIBE, wrong, KEY)


@pytest.mark.parametrize("made_for", Use)
@pytest.mark.parametrize("used_for", Use)
def test_a_link_is_good_for_one_use(made_for, used_for):
    token = token_for(made_for, MESSAGE, KEY)
    if made_for is used_for:
        assert message_of(used_for, token, KEY) == MESSAGE
    else:
        with pytest.raises(BadToken):
            message_of(used_for, token, KEY)


def test_a_link_in_a_mail_that_was_sent_before_links_had_uses_still_ends_marketing():
    raw = bytes.fromhex(MESSAGE)
    token = urlsafe_b64encode(raw + hmac.digest(KEY, b"unsubscribe" + raw, "sha256")[:16]).decode().rstrip("=")
    assert message_of(Use.UNSUBSCRIBE, token, KEY) == MESSAGE


def test_a_tracked_link_leads_to_its_own_target_only():
    links = Links("https://mail.example/")
    links.use_key(KEY)
    parts = urlsplit(links.tracked(MESSAGE, SHOP))
    token, target = parts.path.removeprefix("/v1/click/"), parse_qs(parts.query)["to"][0]
    assert target == SHOP
    assert links.message_behind(Use.CLICK, token, target) == MESSAGE
    for other in ("", "https://evil.example/", target + "/", target[:-1], target.upper(), "\udc80"):
        with pytest.raises(BadToken):
            links.message_behind(Use.CLICK, token, other)


@pytest.mark.parametrize("target", [SHOP, "http://127.0.0.1:8080", "https://xn--42cl.example/%E0%B8%81?a[]=b", "https://shop.example?x"])
def test_a_mail_may_lead_to_a_web_address(target):
    assert web_address(target) == target


@pytest.mark.parametrize(
    "target",
    [
        "", "javascript:alert(1)", "//evil.example", "/new", "ftp://shop.example/", "https://", "https:///x", "https://user@evil.example/",
        "https://shop.example\\@evil.example/", "https://shop.example/a b", "https://shop.example/\n", "https://ร้าน.example/",
        "HTTPS://shop.example:port/", 'https://shop.example/"onclick', "https://shop.example/" + "x" * LONGEST_TARGET,
    ],
)  # fmt: skip
def test_and_nowhere_else(target):
    with pytest.raises(NotALink, match="must be a web address"):
        web_address(target)


TRACKED = replace(
    WORDS,
    content={"url": SHOP},
    pixel_url="https://mail.example/v1/open/t",
    tracked=lambda target: f"https://mail.example/v1/click/t?to={target}",
)
PIXEL = '<img src="https://mail.example/v1/open/t" width="1" height="1"'
LABELS = {
    ("welcome", "en"): "Have a look around", ("win_back", "en"): "See what is new",
    ("welcome", "th"): "เลือกชมสินค้า", ("win_back", "th"): "ดูสินค้าใหม่",
}  # fmt: skip


@pytest.mark.parametrize(("name", "language"), LABELS)
def test_a_tracked_mail_has_one_picture_and_its_links_lead_past_us_in_html_alone(name, language):
    mail = TEMPLATES.render(name, language, TRACKED)
    assert mail.html.count(PIXEL) == 1
    assert mail.html.count("<img") == 1
    assert f'href="https://mail.example/v1/click/t?to={html.escape(SHOP)}"' in mail.html
    assert f'href="{html.escape(SHOP)}"' not in mail.html
    assert f"\n\n{LABELS[name, language]}: {SHOP}\n\n" in mail.text
    assert "mail.example" not in mail.text
    assert f">{LABELS[name, language]}</a>" in mail.html


@pytest.mark.parametrize(("name", "language"), LABELS)
def test_an_untracked_mail_has_no_picture_and_its_links_lead_where_they_say(name, language):
    mail = TEMPLATES.render(name, language, replace(TRACKED, pixel_url=None, tracked=None))
    assert "<img" not in mail.html
    assert "mail.example" not in mail.html
    assert f'href="{html.escape(SHOP)}"' in mail.html


@pytest.mark.parametrize("url", ["javascript:alert(1)", 7, True])
@pytest.mark.parametrize("words", [WORDS, TRACKED])
def test_a_link_that_is_no_web_address_is_an_error_and_never_sent(url, words):
    with pytest.raises(CannotRender):
        TEMPLATES.render("welcome", "en", replace(words, content={"url": url}))


def message(customer, number):
    return Message(f"{customer}{number}", "o", "p", customer, "email", 0, "welcome", "marketing", {}, AT, AT, AT, 0)


def test_side_by_side_go_only_messages_of_different_customers_and_each_customers_stay_in_order():
    messages = [message("a", 1), message("a", 2), message("b", 1), message("c", 1), message("a", 3), message("b", 2)]
    groups = slices(messages, 2)
    assert sorted(one.message_id for group in groups for one in group) == sorted(one.message_id for one in messages)
    assert all(len({one.customer_id for one in group}) == len(group) <= 2 for group in groups)
    flat = [one.message_id for group in groups for one in group]
    assert [one for one in flat if one.startswith("a")] == ["a1", "a2", "a3"]

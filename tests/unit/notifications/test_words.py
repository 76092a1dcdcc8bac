"""Templates, letters and links."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from email import message_from_bytes, policy

import pytest

from services.notifications.domain.messages import Message, message_id
from services.notifications.domain.slices import slices
from services.notifications.letters import NotAnAddress, Sender, compose
from services.notifications.templates import CannotRender, Templates, Words, day_in_words
from services.notifications.unsubscribe import BadToken, message_of, token_for

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


def test_a_link_names_its_message_and_cannot_be_made_up():
    key = b"k" * 32
    token = token_for("ab" * 16, key)
    assert message_of(token, key) == "ab" * 16
    for wrong in (token[:-4], token[:-1] + ("A" if token[-1] != "A" else "B"), "", "å", token_for("ab" * 16, b"x" * 32), "abc"):
        with pytest.raises(BadToken):
            message_of(wrong, key)


def message(customer, number):
    return Message(f"{customer}{number}", "o", "p", customer, "email", 0, "welcome", "marketing", {}, AT, AT, AT, 0)


def test_side_by_side_go_only_messages_of_different_customers_and_each_customers_stay_in_order():
    messages = [message("a", 1), message("a", 2), message("b", 1), message("c", 1), message("a", 3), message("b", 2)]
    groups = slices(messages, 2)
    assert sorted(one.message_id for group in groups for one in group) == sorted(one.message_id for one in messages)
    assert all(len({one.customer_id for one in group}) == len(group) <= 2 for group in groups)
    flat = [one.message_id for group in groups for one in group]
    assert [one for one in flat if one.startswith("a")] == ["a1", "a2", "a3"]

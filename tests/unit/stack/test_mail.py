"""The sink keeps the newest mails whole and counts all of them."""

from email.message import EmailMessage

import pytest

from stack.mail import Mailbox, page


def mail(subject, text="hello", html=None):
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, "shop@example.com", "somebody@example.com"
    message.set_content(text)
    if html:
        message.add_alternative(html, subtype="html")
    return message.as_bytes()


@pytest.fixture
def mailbox():
    box = Mailbox(kept=3)
    for number in range(1, 6):
        box.receive("shop@example.com", [f"customer-{number}@example.com"], mail(f"No {number}", html="<b>hello</b>"))
    return box


def test_the_newest_are_kept_and_all_are_counted(mailbox):
    assert mailbox.count() == {"received": 5, "kept": 3}
    assert [each["number"] for each in mailbox.list()] == [3, 4, 5]
    assert mailbox.get(2) is None


def test_a_mail_can_be_read_whole(mailbox):
    found = mailbox.get(5)
    assert (found["subject"], found["text"].strip(), found["html"].strip()) == ("No 5", "hello", "<b>hello</b>")
    assert found["headers"]["from"] == "shop@example.com"


def test_mails_are_found_by_recipient_and_page_by_number(mailbox):
    assert [each["number"] for each in mailbox.list(to="CUSTOMER-4@example.com")] == [4]
    assert [each["number"] for each in mailbox.list(after=3, limit=1)] == [4]


def test_thai_survives():
    box = Mailbox()
    number = box.receive("shop@example.com", ["a@example.com"], mail("ยินดีต้อนรับ", "สวัสดีค่ะ"))
    assert (box.get(number)["subject"], box.get(number)["text"].strip()) == ("ยินดีต้อนรับ", "สวัสดีค่ะ")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe no mail at all", b"Content-Type: text/plain; charset=no-such\r\n\r\nhello"])
def test_what_is_no_proper_mail_is_kept_too(content):
    box = Mailbox()
    assert box.get(box.receive("a@example.com", ["b@example.com"], content))["bytes"] == len(content)


def test_clearing_lets_go_of_the_mails_but_not_of_the_count(mailbox):
    mailbox.clear()
    assert mailbox.count() == {"received": 5, "kept": 0}
    assert mailbox.receive("a@example.com", ["b@example.com"], mail("next")) == 6


def test_the_page_shows_subjects_and_runs_none_of_them():
    box = Mailbox()
    box.receive("a@example.com", ["b@example.com"], mail("<script>alert(1)</script>"))
    assert "<script>" not in page(box)
    assert "&lt;script&gt;" in page(box)

"""The way out: gate, claim, hand over, settle, report. Every message that is sent takes it, whatever brought it here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from math import inf
from time import monotonic, time
from uuid import uuid4

from services.notifications import metrics
from services.notifications.domain.contacts import Contact
from services.notifications.domain.interactions import Kind, told_of_mail
from services.notifications.domain.messages import Message, Outcome, State, delivery_of
from services.notifications.domain.policy import Deferred, Send, Suppressed
from services.notifications.domain.reasons import Reason
from services.notifications.domain.slices import slices
from services.notifications.ownership import OwnedPartitions
from services.notifications.settings import NotificationsSettings
from services.notifications.situation import Judged, look_up
from services.notifications.smtp import Accepted, Courier, HandOver, NotTaken, Refused, Uncertain
from services.notifications.store import messages as message_store
from services.notifications.store.messages import Postponed
from services.notifications.writing import CannotWrite, Writer
from shared.clock import Clock
from shared.contracts.topics import DELIVERIES, INTERACTIONS
from shared.mongo import in_store
from shared.streaming import records
from shared.streaming.errors import Unavailable
from shared.streaming.records import Publish

DUE_AT_ONCE, DUE_AT_LEAST = 256, 32
"""What there is no time for is asked about again: the next look takes half as many, and twice as many once all of them went."""
LONG_LOOK_SECONDS = 0.05
RESTS = 5
"""After a long look for what is due the database has this many times as long for others: a look costs more the more is waiting."""
HANDLER_SECONDS = 1.0
TIMER_SECONDS = 0.1
REPORTED_AT_ONCE = 500
ASK_AGAIN = timedelta(seconds=1)
LONGEST_RETRY = timedelta(minutes=5)
LONGEST_PAUSE_SECONDS = 30.0


@dataclass(slots=True)
class Claimed:
    """What came of one claim, until it is written down."""

    token: str
    outcomes: list[Outcome] = field(default_factory=list)
    postponed: list[Postponed] = field(default_factory=list)


class Outbox:
    """Sends what is due. One call runs at a time in a process; claims and owned partitions keep processes apart."""

    def __init__(
        self, courier: Courier, writer: Writer, publish: Publish, owned: OwnedPartitions, *, settings: NotificationsSettings, clock: Clock
    ) -> None:
        self._courier, self._writer, self._publish, self._owned = courier, writer, publish, owned
        self._settings, self._clock, self._rules = settings, clock, settings.rules()
        self._master_key = settings.master
        self._unsettled: list[Claimed] = []
        self._reported: list[str] = []
        self._paused_until = -inf
        self._looks_from = -inf
        self._due_at_once = DUE_AT_ONCE
        self._pause_seconds = 0.0

    async def send_due(self) -> None:
        """Send what the clock has reached, a little at a time."""
        if self._owned.numbers and not self._is_paused() and monotonic() >= self._looks_from:
            now, began = _to_milliseconds(self._clock.now()), monotonic()
            due = await in_store(message_store.due, frozenset(self._owned.numbers), now, _wall(), self._due_at_once)
            if (took := monotonic() - began) > LONG_LOOK_SECONDS:
                self._looks_from = monotonic() + RESTS * took
            all_went = await self.send(await self._passing(due), TIMER_SECONDS)
            self._due_at_once = min(2 * self._due_at_once, DUE_AT_ONCE) if all_went else max(self._due_at_once // 2, DUE_AT_LEAST)

    async def send(self, messages: Sequence[Message], seconds: float = HANDLER_SECONDS) -> bool:
        """Bring messages through the gate and out. False where some stay due for `send_due`: no time was left, or the server is away."""
        await self._settle()
        until = monotonic() + seconds
        # The outcomes of one slice are written while the next is under way: caps count what is claimed, so they need not wait for them.
        settling = asyncio.create_task(self._settle())
        try:
            for now, some in self._slices(messages):
                if self._is_paused() or monotonic() > until:
                    return False
                await self._send_slice(some, now)
                await settling
                settling = asyncio.create_task(self._settle())
        finally:
            await settling
        return True

    async def tidy(self) -> None:
        """Close what a dead process left in the middle of sending, and publish every outcome that is not published."""
        await self._settle()
        await self._remember_reported()
        owned = frozenset(self._owned.numbers)
        if not owned:
            return
        for channel in await in_store(message_store.abandon, owned, _wall(), _to_milliseconds(self._clock.now())):
            metrics.SENDS.labels(channel, State.UNKNOWN).inc()
        await self.report(await in_store(message_store.unreported, owned, REPORTED_AT_ONCE))

    async def close(self) -> None:
        """Write down what is known, and take leave of the mail server."""
        await self._settle()
        await self._remember_reported()
        await self._courier.close()

    async def report(self, outcomes: Sequence[Outcome]) -> None:
        """Publish outcomes. That they are published is written down by `tidy`: until then a crash has them published twice, never lost."""
        await self._tell(outcomes)
        await self._tell_of_mails(outcomes)
        self._reported += [outcome.message.message_id for outcome in outcomes]

    async def tell_refused(self, outcomes: Sequence[Outcome]) -> None:
        """Publish and count refusals that were recorded with their messages."""
        await self._tell(outcomes)
        _count(outcomes)

    async def _tell(self, outcomes: Sequence[Outcome]) -> None:
        if outcomes:
            deliveries = [(outcome.message.customer_id, delivery_of(outcome)) for outcome in outcomes]
            await self._publish(DELIVERIES, [records.Message(to.encode(), event.model_dump_json().encode()) for to, event in deliveries])

    async def _tell_of_mails(self, outcomes: Sequence[Outcome]) -> None:
        """Publish that mails were sent, as something that happened to their readers. Identity recognises what is told again."""
        told = [(outcome.reference, event) for outcome in outcomes if (event := told_of_mail(outcome))]
        if told:
            messages = [records.Message((to or "").encode(), event.model_dump_json().encode()) for to, event in told]
            await self._publish(INTERACTIONS, messages)
            metrics.MAIL_INTERACTIONS.labels(Kind.SENT).inc(len(messages))

    async def _remember_reported(self) -> None:
        while self._reported:
            some = self._reported[:REPORTED_AT_ONCE]
            await in_store(message_store.reported, some)
            del self._reported[: len(some)]

    def _slices(self, messages: Sequence[Message]) -> Iterator[tuple[datetime, list[Message]]]:
        """What goes out side by side, and the time that the gate goes by: the clock's. But a replay's clock jumps over the
        mornings that messages were put off to, and they are judged as of these."""
        for put_off_to, alike in groupby(messages, key=self._judged_as_of):
            for some in slices(list(alike), self._settings.smtp_connections):
                yield _to_milliseconds(put_off_to or self._clock.now()), some

    def _judged_as_of(self, message: Message) -> datetime | None:
        return message.put_off_to if self._clock.mode == "replay" else None

    async def first_look(self, messages: Sequence[Message], contacts: Mapping[str, Contact]) -> dict[str, Outcome | Postponed]:
        """What the gate holds back of these new messages, by id; nothing is written down. The others are due."""
        now = _to_milliseconds(self._clock.now())
        postponed, refused = _held_back(await self._judge([(message, now) for message in messages], contacts))
        return {one.message.message_id: one for one in postponed} | {one.message.message_id: one for one in refused}

    async def _passing(self, messages: Sequence[Message]) -> list[Message]:
        """Those that may go; what the gate holds back is written down, all of it together. Each is asked about again before it goes."""
        at = _to_milliseconds(self._clock.now())
        judged = await self._judge([(message, self._judged_as_of(message) or at) for message in messages])
        await self._hold_back(judged)
        return [one.message for one, _ in judged if isinstance(one.verdict, Send)]

    async def _judge(
        self, asked: Sequence[tuple[Message, datetime]], contacts: Mapping[str, Contact] | None = None
    ) -> list[tuple[Judged, datetime]]:
        """What the gate says of each message as of its moment."""
        if not asked:
            return []
        since = min(now for _, now in asked) - self._rules.longest_window
        situation = await in_store(look_up, [message for message, _ in asked], since, contacts, self._master_key)
        return [(situation.judge(message, self._rules, now, _wall()), now) for message, now in asked]

    async def _send_slice(self, messages: Sequence[Message], now: datetime) -> None:
        judged = await self._judge([(message, now) for message in messages])
        first, again = _once_each(judged)
        await self._hold_back(first)
        await self._send_allowed([one for one, _ in first if isinstance(one.verdict, Send)], now)
        if again:
            await self._send_slice([one.message for one, _ in again], now)

    async def _hold_back(self, judged: Sequence[tuple[Judged, datetime]]) -> None:
        """Write down what the gate put off or refused."""
        postponed, refused = _held_back(judged)
        if postponed:
            await in_store(message_store.defer, postponed)
        if refused:
            complete = await in_store(message_store.suppress, refused)
            await self._closed(refused, complete)

    async def _send_allowed(self, allowed: Sequence[Judged], now: datetime) -> None:
        leased_until = _wall() + self._settings.lease()
        sending, token = await self._claim(allowed, now, leased_until)
        answers = await asyncio.gather(*(self._hand_over(one, now, leased_until) for one in sending))
        claimed = Claimed(token)
        for one, answer in zip(sending, answers, strict=True):
            self._note(claimed, one, answer, now)
        if sending:
            self._unsettled.append(claimed)

    async def _claim(self, allowed: Sequence[Judged], now: datetime, leased_until: datetime) -> tuple[list[Judged], str]:
        """Those that nobody else has claimed, and the token that they are ours under."""
        token = uuid4().hex
        ids = [one.message.message_id for one in allowed]
        try:
            ours = await in_store(message_store.claim, ids, token, now, leased_until)
        except Unavailable:
            # Some may be claimed all the same, and none was handed over: give them back when the database answers again.
            back = [Postponed(one.message, now, Reason.TRY_LATER, _wall(), "the database went away") for one in allowed]
            self._unsettled.append(Claimed(token, postponed=back))
            raise
        return [one for one in allowed if one.message.message_id in ours], token

    async def _hand_over(self, one: Judged, now: datetime, leased_until: datetime) -> HandOver:
        if _wall() >= leased_until:
            # This process stood still, and others take it for dead: what the gate said then no longer counts.
            return NotTaken(Reason.TRY_LATER, "the claim ran out before the hand-over")
        try:
            letter = self._writer.write(one.message, one.contact, now)
        except CannotWrite as error:
            return Refused(error.reason, str(error))
        return await self._courier.hand_over(letter)

    def _note(self, claimed: Claimed, one: Judged, answer: HandOver, now: datetime) -> None:
        match answer:
            case Accepted():
                self._pause_seconds = 0.0
                _observe_latency(one.message)
                claimed.outcomes.append(self._sent(one, now))
            case Refused(reason, detail):
                claimed.outcomes.append(_outcome(one, State.FAILED, now, reason, detail=detail))
            case Uncertain(detail):
                claimed.outcomes.append(_outcome(one, State.UNKNOWN, now, Reason.CONNECTION_LOST, detail=detail))
            case NotTaken(reason, detail):
                metrics.DEFERRALS.labels(reason).inc()
                claimed.postponed.append(Postponed(one.message, now, reason, self._retry_at(one.message, reason), detail))

    def _sent(self, one: Judged, now: datetime) -> Outcome:
        return replace(
            _outcome(one, State.SENT, now),
            language=self._writer.language_of(one.message, one.contact),
            reference=one.contact.reference_on(one.message.channel) if one.contact else None,
            tracked=self._writer.is_tracked(one.message),
        )

    async def _settle(self) -> None:
        """Write down and report what came of every claim. What the database could not take is kept and written next time."""
        while self._unsettled:
            claimed = self._unsettled[0]
            await in_store(message_store.release, claimed.postponed, claimed.token)
            complete = await in_store(message_store.settle, claimed.outcomes, claimed.token)
            self._unsettled.pop(0)
            await self._closed(claimed.outcomes, complete)

    async def _closed(self, outcomes: Sequence[Outcome], complete: bool) -> None:
        """Report what was just written. Where others had closed a part of it, the store knows what is true, and `tidy` reports that."""
        if complete:
            _count(outcomes)
            await self.report(outcomes)

    def _retry_at(self, message: Message, reason: Reason) -> datetime:
        if reason is not Reason.SERVER_AWAY:
            return _wall() + min(LONGEST_RETRY, timedelta(seconds=2 ** min(10, message.attempts + 1)))
        if not self._is_paused():
            self._pause_seconds = min(LONGEST_PAUSE_SECONDS, max(1.0, 2 * self._pause_seconds))
            self._paused_until = monotonic() + self._pause_seconds
        return _wall()

    def _is_paused(self) -> bool:
        """Is the mail server away, and not to be asked yet?"""
        return monotonic() < self._paused_until


def _once_each(judged: Sequence[tuple[Judged, datetime]]) -> tuple[list[tuple[Judged, datetime]], list[tuple[Judged, datetime]]]:
    """The first for each person, and those to be judged again after it: messages to several profiles of one customer count each other."""
    first: list[tuple[Judged, datetime]] = []
    again: list[tuple[Judged, datetime]] = []
    seen: set[str] = set()
    for one, now in judged:
        person = one.contact.customer_id if one.contact else one.message.customer_id
        (again if person in seen else first).append((one, now))
        seen.add(person)
    return first, again


def _held_back(judged: Sequence[tuple[Judged, datetime]]) -> tuple[list[Postponed], list[Outcome]]:
    """What the gate put off, and what it refused."""
    postponed = [_put_off(one.message, one.verdict, now) for one, now in judged if isinstance(one.verdict, Deferred)]
    refused = [_outcome(one, State.SUPPRESSED, now, one.verdict.reason) for one, now in judged if isinstance(one.verdict, Suppressed)]
    return postponed, refused


def _put_off(message: Message, verdict: Deferred, now: datetime) -> Postponed:
    """Whom we do not know yet we ask for again by the wall's clock, since a replay's may stand still; ever less often."""
    metrics.DEFERRALS.labels(verdict.reason).inc()
    wall = _wall()
    wait = max(ASK_AGAIN, wall - message.recorded_at) if verdict.until <= now else timedelta(0)
    return Postponed(message, verdict.until, verdict.reason, wall + wait)


def _outcome(one: Judged, state: State, at: datetime, reason: Reason | None = None, *, detail: str | None = None) -> Outcome:
    return Outcome(one.message, state, at, reason, detail, one.choice.reason)


def _count(outcomes: Iterable[Outcome]) -> None:
    for outcome in outcomes:
        metrics.SENDS.labels(outcome.message.channel, outcome.state).inc()
        if outcome.state is State.SUPPRESSED and outcome.reason:
            metrics.SUPPRESSIONS.labels(outcome.reason).inc()


def _observe_latency(message: Message) -> None:
    """Only what went straight through: waiting for the morning says nothing about us."""
    if message.attempts == 0:
        metrics.HAND_OVER_SECONDS.observe(max(0.0, time() - message.appended_ms / 1000))


def _to_milliseconds(at: datetime) -> datetime:
    """As the database keeps it, so that an outcome reads the same from memory and from there."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def _wall() -> datetime:
    return datetime.now(UTC)

"""When a schedule fires: cron text or a period, checked here, and in the words of the server. Pure.

The server takes six fields, with seconds, and Sundays as 0. What people write has five, Sundays as 7 too, or a macro.
The server says with each message when the next one is due; so the time for which a message was meant is known exactly,
however late the message is, and is the same should it come twice.
"""

from __future__ import annotations

import difflib
import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from bus.errors import UsageError

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
FIELDS = ("second", "minute", "hour", "day-of-month", "month", "day-of-week")
_RANGES = ("0-59", "0-59", "0-23", "1-31", "1-12 or JAN-DEC", "0-7 or SUN-SAT")
_HINT = "minute hour day-of-month month day-of-week, as in '0 8 * * 1-5'; or six fields with seconds first"
MIN_EVERY_S = 1.0
_LONGEST_EVERY_S = 366 * 86_400.0


def check_cron(text: str) -> str:
    """``text`` if the server can fire by it. Raises: UsageError ``bad_cron`` that names the field that is wrong."""
    fields = _fields(text)
    try:
        CronSim(" ".join(fields), datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise _wrong_field(text, fields, str(error)) from None
    for name, value in zip(FIELDS[-len(fields) :], fields, strict=True):
        if "L" in value.replace("JUL", "") or "#" in value:
            raise _bad(text, f"field {name} is {value!r}: the server has no last or n-th days")
    return text


def _fields(text: str) -> list[str]:
    fields = MACROS.get(text, text).upper().split()
    if len(fields) not in (5, 6):
        hint = f"{_HINT}; or {', '.join(MACROS)}"
        raise UsageError(f"cron {text!r} has {len(fields)} fields", code="bad_cron", path="cron", hint=hint)
    return fields


def _wrong_field(text: str, fields: list[str], said: str) -> UsageError:
    name = said.removeprefix("Bad ").lower()
    if name not in FIELDS:
        return _bad(text, said)
    place = FIELDS.index(name)
    value = fields[place - len(FIELDS)]
    return UsageError(
        f"cron {text!r}: field {name} is {value!r}", code="bad_cron", path="cron",
        hint=f"{name} is {_RANGES[place]}, '*', a list, a range or a step",
    )  # fmt: skip


def _bad(text: str, why: str) -> UsageError:
    return UsageError(f"cron {text!r}: {why}", code="bad_cron", path="cron", hint=_HINT)


def server_cron(text: str) -> str:
    """The text for the server: six fields, Sundays as 0."""
    fields = _fields(text)
    fields = fields if len(fields) == len(FIELDS) else ["0", *fields]
    if "7" in fields[-1]:
        days = CronSim("* * * * " + fields[-1], datetime(2026, 1, 1, tzinfo=UTC)).weekdays
        fields[-1] = ",".join(str(day) for day in sorted({day % 7 for day in days if isinstance(day, int)}))
    return " ".join(fields)


def check_zone(name: str) -> str:
    """``name`` if it is a time zone of the IANA list. Raises: UsageError with what is near."""
    if name in available_timezones():
        return name
    near = difflib.get_close_matches(name, available_timezones(), n=1)
    hint = f"did you mean {near[0]}?" if near else "a name such as Europe/Berlin or UTC"
    raise UsageError(f"there is no time zone {name!r}", code="bad_time_zone", path="time_zone", hint=hint)


def check_every(seconds: float) -> float:
    """``seconds`` if the server can fire every so many. Raises: UsageError."""
    if not MIN_EVERY_S <= seconds <= _LONGEST_EVERY_S:
        raise UsageError(f"a schedule cannot fire every {seconds:g} s", code="bad_every", path="every_s",
                         hint="1 s to 366 d")  # fmt: skip
    return seconds


def cron_times(text: str, zone: str, after: datetime, number: int) -> list[datetime]:
    """The next ``number`` times after an instant, in UTC."""
    times = CronSim(" ".join(_fields(text)), after.astimezone(ZoneInfo(zone or "UTC")))
    return [time.astimezone(UTC) for time in itertools.islice(times, number)]


def cron_time_before(text: str, zone: str, instant: datetime) -> datetime:
    """The last time before an instant, in UTC."""
    times = CronSim(" ".join(_fields(text)), instant.astimezone(ZoneInfo(zone or "UTC")), reverse=True)
    return next(times).astimezone(UTC)


def every_times(every_s: float, base: datetime, after: datetime, number: int) -> list[datetime]:
    """Times after an instant that are whole periods from ``base``."""
    passed = max(0, int((after - base).total_seconds() // every_s))
    return [base + timedelta(seconds=every_s * (passed + n)) for n in range(1, number + 1)]

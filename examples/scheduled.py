"""Jobs by the clock: a report each working day, a check every quarter of an hour, and one reminder for later.

    callboard up examples.scheduled:app
    python -m examples.scheduled
    callboard schedules list

A run has the id ``<schedule>-<instant>``, so it is one job however often the server says that its time has come.
"""

from __future__ import annotations

import asyncio

from msgspec import Struct

from actors import App, Client, Job

app = App("scheduled", version="1.0.0", description="Jobs that begin by themselves")


class Report(Struct):
    """What a run found."""

    region: str
    orders: int
    run: str


@app.tool
async def count_orders(region: str) -> int:
    """Count the orders of a region."""
    return len(region)


@app.job
async def report(job: Job, region: str) -> Report:
    """Report how many orders there are."""
    return Report(region, await job.call(count_orders, region=region), job.id)


@app.job
async def remind(job: Job, text: str) -> str:
    """Say it when it is time."""
    return f"{await job.now():%H:%M}: {text}"


async def plan(client: Client) -> None:
    """Make the schedules, and one job for later. May be run again: what is there stays as it is."""
    await client.schedules.add(
        "daily-report", "report", cron="0 8 * * 1-5", time_zone="Europe/Berlin", input={"region": "north"},
        deadline_s=3600,
    )  # fmt: skip
    # A check that takes longer than its period is not started twice: that is what `skip` means, the default.
    await client.schedules.add("check", "report", every_s=900, input={"region": "south"}, overlap="skip")
    await client.submit(remind, text="look at the report", delay_s=3600, job_id="reminder")


async def main() -> None:
    """Plan everything, and run the report once now."""
    async with Client.connect() as client:
        await plan(client)
        job = await client.schedules.run("daily-report")
        print(job, await client.result(job))
        for schedule in await client.schedules.list():
            print(schedule.name, schedule.cron or f"every {schedule.every_s} s", schedule.next_at[:1])


if __name__ == "__main__":
    asyncio.run(main())

"""The account of a crash campaign: what was asked, what the daemon says, what the jobs say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from support.campaign_jobs import KILLED, LONG_ESCAPE, SHORT_ESCAPE, TERMINATED, Plan, Record
from wsclean_client import JobInfo, JobState

_SHOWN = 10
# Without these the comparison would say little.
_NEEDED = (
    "acknowledged",
    "to end",
    "stopped, daemon",
    "never ran",
    "bytes read",
    "escapees",
    "doubled",
    "repeated",
    "locked, alone",
)
_BY_ITSELF = {JobState.SUCCEEDED, JobState.FAILED}


@dataclass
class Account:
    """Compares all that is known of the jobs of a campaign.

    Attributes:
        headline: What was done.
        records: What the callers were told.
        listed: All jobs that the daemon knows in the end.
        said: What each job wrote into the log itself.
        noise: What the outputs are made of.
        orphans: Processes that are left, jobs that are live, slots that are taken.
        failures: What else went wrong.
        lost: Jobs that were acknowledged and not run, or whose outcome is not known.
        twice: Jobs that are there or ran more than once.
        wrong: What else is not as it must be.
        sums: What the table shows.
    """

    headline: str
    records: Sequence[Record]
    listed: Sequence[JobInfo]
    said: Mapping[str, list[str]]
    noise: bytes
    orphans: Collection[str]
    failures: Collection[str]
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    sums: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        known: dict[str, list[JobInfo]] = {}
        for info in self.listed:
            known.setdefault(info.command[2], []).append(info)
        for record in self.records:
            self._check(record, known.get(record.plan.key, []))
        strangers = {*known, *self.said} - {record.plan.key for record in self.records}
        self.wrong += [f"{key}: nobody submitted it" for key in sorted(strangers)]
        self.wrong += self.failures
        self.wrong += [f"no jobs to compare: {each}" for each in _NEEDED if not self.sums[each]]

    @property
    def problems(self) -> list[str]:
        """What is not as it must be, some of each kind."""
        kinds = {
            "lost": self.lost,
            "run twice": self.twice,
            "orphan": self.orphans,
            "wrong": self.wrong,
        }
        return [f"{kind}: {each}" for kind, all_ in kinds.items() for each in list(all_)[:_SHOWN]]

    def table(self) -> str:
        """The account for people."""
        n = self.sums
        rows = (
            ("", "callers", "daemon", "jobs' log"),
            ("acknowledged", n["acknowledged"], n["acknowledged, known"], ""),
            ("given up without an answer", n["given up"], n["given up, known"], ""),
            ("ended by themselves", n["to end"], n["ended, daemon"], n["ended, job"]),
            ("  with the exit status planned", n["to end"], n["status, daemon"], n["status, job"]),
            ("stopped while they ran", "", n["stopped, daemon"], n["stopped, job"]),
            ("stopped before they ran", "", n["never ran"], ""),
            ("bytes of output, planned and read", n["bytes planned"], n["bytes read"], ""),
            ("short escapees", n["escapees"], "", n["escapees, job"]),
            ("begun with a lock, alone with it", n["locked"], "", n["locked, alone"]),
            ("submitted twice", n["doubled"], n["doubled, one job"], ""),
            ("calls repeated until answered", n["repeated"], "", ""),
        )
        lines = [f"{name:36}{mine:>12}{its:>12}{own:>12}" for name, mine, its, own in rows]
        verdict = (
            f"lost {len(self.lost)}, run twice {len(self.twice)}, orphans {len(self.orphans)}, "
            f"otherwise wrong {len(self.wrong)}"
        )
        return "\n".join([self.headline, *lines, verdict, *self.problems])

    # -- one job -----------------------------------------------------------------

    def _check(self, record: Record, known: list[JobInfo]) -> None:
        plan, said = record.plan, self.said.get(record.plan.key, [])
        self._count_submission(record, known)
        self.wrong += [f"{plan.key}: {each}" for each in record.trouble]
        starts = said.count("start")
        if plan.lock and starts:
            self.sums["locked"] += 1
            self.sums["locked, alone"] += "overlaps" not in said
        if "overlaps" in said:
            self.wrong.append(f"{plan.key}: was not alone with its lock {plan.lock}")
        if max(len(record.ids), len(known), starts) > 1:
            ids = sorted(record.ids | {info.id for info in known})
            self.twice.append(f"{plan.key}: it is job {' and '.join(ids)} and began {starts} times")
        elif not known:
            if record.ids or starts:
                self.lost.append(f"{plan.key}, job {record.ids}: the daemon does not know it")
        else:
            self._check_job(record, known[0], said)

    def _count_submission(self, record: Record, known: list[JobInfo]) -> None:
        n, plan = self.sums, record.plan
        kind = "acknowledged" if record.ids else "given up"
        n[kind] += 1
        n[f"{kind}, known"] += bool(known)
        n["repeated"] += record.repeated
        if plan.twice and record.ids:
            n["doubled"] += 1
            n["doubled, one job"] += len(known) == len(record.ids) == 1

    def _check_job(self, record: Record, job: JobInfo, said: list[str]) -> None:
        name = f"{record.plan.key}, job {job.id}"
        if record.ids - {job.id}:
            self.wrong.append(f"{name}: its caller was told that it is job {record.ids}")
        if not job.ended or job.state is JobState.LOST:
            self.lost.append(f"{name}: {job.state}, {job.reason}, its log {said}")
            return
        told = record.info
        if told and (told.state, told.exit_status) != (job.state, job.exit_status):
            self.wrong.append(f"{name}: was {told.state} and is {job.state}")
        whole = record.plan.ends_by_itself or job.state in _BY_ITSELF
        if whole:
            self._check_whole(name, record.plan, job, said)
        else:
            self._check_stopped(name, record.plan, job, said)
        if told:
            self._check_output(name, record, whole=whole)

    def _check_whole(self, name: str, plan: Plan, job: JobInfo, said: list[str]) -> None:
        """One that nobody stopped: planned, told and done are the same."""
        n = self.sums
        ends = [words for words in said if words.startswith("end ")]
        n["to end"] += 1
        n["ended, daemon"] += job.state in _BY_ITSELF
        n["ended, job"] += len(ends)
        n["status, daemon"] += job.exit_status == plan.status
        n["status, job"] += ends == [f"end {plan.status}"]
        wanted = JobState.FAILED if plan.status else JobState.SUCCEEDED
        found = (job.state, job.exit_status, said.count("start"), ends)
        if found != (wanted, plan.status, 1, [f"end {plan.status}"]):
            kind = self.lost if "start" not in said else self.wrong
            kind.append(f"{name}: planned {plan.status}, found {found}, {job.reason}")
        escaped = said.count("escaped")
        if plan.escape != LONG_ESCAPE:
            short = plan.escape == SHORT_ESCAPE
            n["escapees"] += short
            n["escapees, job"] += escaped
            if escaped != short:
                self.wrong.append(f"{name}: its escapee ended {escaped} times")

    def _check_stopped(self, name: str, plan: Plan, job: JobInfo, said: list[str]) -> None:
        n, status = self.sums, job.exit_status
        wanted = JobState.TIMED_OUT if plan.overdue else JobState.CANCELLED
        if job.state is not wanted:
            self.wrong.append(f"{name}: planned {wanted}, found {job.state}, {job.reason}")
        if status is None:
            n["never ran"] += 1
            if said or plan.overdue:
                self.wrong.append(f"{name}: has no exit status, its log {said}")
            return
        n["stopped, daemon"] += 1
        # TERM can come before the first line.
        n["stopped, job"] += "start" in said
        if status not in {KILLED, TERMINATED, plan.status}:
            self.wrong.append(f"{name}: stopped, with exit status {status}, its log {said}")

    def _check_output(self, name: str, record: Record, *, whole: bool) -> None:
        for stream, data in record.output.items():
            planned = record.plan.output(self.noise, stream)
            if not whole:
                # As far as it came; the rest was not to be written.
                planned = planned[: len(data)]
            self.sums["bytes planned"] += len(planned)
            self.sums["bytes read"] += len(data)
            if planned != data:
                self.wrong.append(
                    f"{name}: of {len(planned)} bytes of {stream}, {len(data)} were read, "
                    f"the same: {planned.startswith(bytes(data))}",
                )

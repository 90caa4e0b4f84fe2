"""Shows that the stateful test can fail: breaks the pure core and looks who notices.

    python tools/mutations.py [--examples N] [NAME …]

Each row of the table breaks one line of a copy of the package. The test then plays
against that copy with the one check alone that is to catch it (NAME selects rows by
that check). Exits with 1 if a broken copy survives.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "daemon" / "wsclean_workerd"

CAUGHT, SURVIVED = 1, 0


@dataclass(frozen=True, slots=True)
class Mutation:
    """One way to break the core.

    Attributes:
        check: Who has to notice.
        file: The module.
        old: Text that is in it once.
        new: What is there instead.
    """

    check: str
    file: str
    old: str
    new: str

    @property
    def told(self) -> str:
        """What is broken, in one line: the lines that differ."""
        same = set(self.old.splitlines()) & set(self.new.splitlines())
        old, new = (
            " ".join(line.strip() for line in text.splitlines() if line not in same)
            for text in (self.old, self.new)
        )
        return f"{old} -> {new or 'nothing'}"


MUTATIONS = [
    Mutation(
        "a_command_runs_at_most_once",
        "state_machine.py",
        "return job, [ResolveLaunch(refused=True), again]",
        "return replace(job, launch=job.launch + 1), [StartJob(), again]",
    ),
    Mutation(
        "a_command_runs_at_most_once",
        "model.py",
        "return self.attempt < self.attempts",
        "return self.attempt <= self.attempts",
    ),
    Mutation(
        "only_what_was_lost_runs_again",
        "state_machine.py",
        "    (_S.RUNNING, StatusLost): _to(lose_status, _S.LOST, _S.STOPPING),\n",
        "    (_S.RUNNING, StatusLost): _to(vanish, _S.LOST, _S.QUEUED),\n",
    ),
    Mutation(
        "InvalidTransition",
        "losing.py",
        "    settled = job.launch if job.state is JobState.QUEUED else job.launch - 1",
        "    settled = job.launch if job.state is JobState.QUEUED else 0",
    ),
    Mutation(
        "nothing_runs_again_that_was_told_to_end",
        "losing.py",
        "    if job.to_run_again:\n"
        "        return _run_again(job, event.at, order_to_end(job).reason)\n",
        "    if job.retries_left:\n"
        "        return _run_again(job, event.at, order_to_end(job).reason)\n",
    ),
    Mutation(
        "nothing_runs_again_that_was_told_to_end",
        "losing.py",
        "        started=None,\n",
        "",
    ),
    Mutation(
        "nothing_runs_again_that_was_told_to_end",
        "losing.py",
        "    if job.retries_left:\n        stopping",
        "    if job.retries_left and job.attempt > 1:\n        stopping",
    ),
    Mutation(
        "what_is_told_to_end_ends_as_it_was_told",
        "losing.py",
        "    if job.to_run_again:\n"
        "        return stop(job, Stop(JobState.CANCELLED, event.reason)), []\n",
        "",
    ),
    Mutation(
        "deadlines_stay_where_they_are",
        "steps.py",
        "job.queued.boot + job.order.queue_timeout",
        "job.submitted.boot + job.order.queue_timeout",
    ),
    Mutation(
        "something_moves_every_job_on",
        "steps.py",
        "        return [SignalJob(Signal.KILL)]\n",
        "        return []\n",
    ),
    Mutation(
        "no_timer_is_left_behind",
        "losing.py",
        "[*disarm(*Timer), ForgetLaunch(), *arm_queue(queued)]",
        "[ForgetLaunch(), *arm_queue(queued)]",
    ),
    Mutation(
        "what_never_began_never_will",
        "state_machine.py",
        "(_S.STARTING, CancelRequested): _to(_cancel_starting, _S.STOPPING)",
        "(_S.STARTING, CancelRequested): _to(_cancel_waiting, _S.CANCELLED)",
    ),
    Mutation(
        "an_end_is_an_end",
        "state_machine.py",
        "def _gone(job: Job, _event: JobGone, _patience: Patience) -> Step:\n"
        "    if not job.lingering:\n"
        "        return job, []\n"
        "    return replace(job, lingering=False)",
        "def _gone(job: Job, _event: JobGone, _patience: Patience) -> Step:\n"
        "    if not job.lingering:\n"
        "        return job, []\n"
        "    return replace(job, lingering=False, reason=_event.reason)",
    ),
    Mutation(
        "state_reason_and_status_agree",
        "state_machine.py",
        "if event.status == 0:",
        "if event.status <= 1:",
    ),
    Mutation(
        "state_reason_and_status_agree",
        "state_machine.py",
        "if refusals >= patience.refusals:",
        "if refusals > 0:",
    ),
    Mutation(
        "a_slot_is_held_while_processes_live",
        "state_machine.py",
        "event.at, state, reason, lingering=True)",
        "event.at, state, reason, lingering=False)",
    ),
    Mutation(
        "a_slot_is_held_while_processes_live",
        "losing.py",
        "ended = end(job, event.at, JobState.LOST, event.reason, lingering=True)",
        "ended = end(job, event.at, JobState.LOST, event.reason, lingering=False)",
    ),
    Mutation(
        "no_more_jobs_start_than_there_are_slots",
        "scheduler.py",
        "while taken + len(chosen) < slots",
        "while len(chosen) < slots",
    ),
    Mutation(
        "the_oldest_start_first",
        "scheduler.py",
        "                (line[0], mounts)\n",
        "                (line[-1], mounts)\n",
    ),
    Mutation(
        "the_oldest_start_first",
        "scheduler.py",
        "if oldest < job_id and others.isdisjoint(blocked):",
        "if oldest < job_id and lock in self._held:",
    ),
    Mutation(
        "the_oldest_start_first",
        "scheduler.py",
        "(behind is None or not behind.isdisjoint(blocked))",
        "behind is None",
    ),
    Mutation(
        "no_lock_is_held_twice",
        "scheduler.py",
        "            if lock in self._held:\n",
        "            if lock in ():\n",
    ),
    Mutation(
        "no_lock_is_held_twice",
        "admission.py",
        "            and self._line.obstacle(job.id, touched, locks, unproven) is None\n",
        "",
    ),
    Mutation(
        "no_lock_is_held_twice",
        "admission.py",
        "        if job.on_slot:\n",
        "        if job.on_slot and not job.lingering:\n",
    ),
    Mutation(
        "a_lock_is_held_while_processes_live",
        "admission.py",
        "        if job.on_slot:\n",
        "        if job.on_slot and not job.state.ended:\n",
    ),
    Mutation(
        "a_lock_is_held_while_processes_live",
        "scheduler.py",
        "        self.hold(job_id, self._locks.get(job_id, ()))\n        self.discard(job_id)\n",
        "        self.discard(job_id)\n",
    ),
    Mutation(
        "every_job_ends_and_frees_its_slot",
        "scheduler.py",
        "                del self._held[lock]\n                self._look_again(lock)\n",
        "                del self._held[lock]\n",
    ),
    Mutation(
        "what_is_told_to_end_ends_as_it_was_told",
        "losing.py",
        "return end(job, at, order.state, order.reason, lingering=lingering)",
        "return end(job, at, JobState.CANCELLED, order.reason, lingering=lingering)",
    ),
    Mutation(
        "what_is_told_to_end_ends_as_it_was_told",
        "state_machine.py",
        "(_S.STOPPING, CancelRequested): _to(cancel_stopping, _S.STOPPING)",
        "(_S.STOPPING, CancelRequested): _to(_cancel_live, _S.STOPPING)",
    ),
    Mutation(
        "times_are_those_of_the_host",
        "state_machine.py",
        "job.started or event.started or event.at",
        "job.started or event.at",
    ),
    Mutation(
        "nothing_times_out_early",
        "state_machine.py",
        "    if event.timer is not Timer.RUN:\n",
        "    if event.timer is Timer.LINGER:\n",
    ),
    Mutation(
        "what_had_ended_is_not_timed_out",
        "recovery.py",
        "            found = [AttachJob()]\n",
        "            found = [AttachJob(), ArmTimer(Timer.RUN, job.submitted.boot)]\n",
    ),
    Mutation(
        "kill_comes_a_grace_period_after_term",
        "steps.py",
        "return [SignalJob(Signal.TERM), ArmTimer(Timer.GRACE, now.boot + patience.grace)]",
        "return [SignalJob(Signal.TERM), ArmTimer(Timer.GRACE, now.boot)]",
    ),
    Mutation(
        "kill_comes_a_grace_period_after_term",
        "state_machine.py",
        "        case Timer.GRACE:\n",
        "        case Timer.GRACE | Timer.START:\n",
    ),
    Mutation(
        "what_stops_was_sent_term_after_it_had_begun",
        "state_machine.py",
        "return started, [SignalJob(Signal.TERM)]",
        "return started, []",
    ),
    Mutation(
        "only_what_nobody_can_know_is_lost",
        "state_machine.py",
        "        case Timer.GRACE:\n            return job, [SignalJob(Signal.KILL)]",
        "        case Timer.GRACE:\n            return job, [SignalJob(Signal.KILL), "
        "ArmTimer(Timer.KILL, event.at.boot + patience.kill)]",
    ),
    Mutation(
        "something_moves_every_job_on",
        "losing.py",
        "return [*disarm(*Timer), ArmTimer(Timer.LINGER, at.boot + patience.grace)]",
        "return disarm(*Timer)",
    ),
    Mutation(
        "something_moves_every_job_on",
        "state_machine.py",
        "return job, [ResolveLaunch(refused=True), again]",
        "return job, [ResolveLaunch(refused=True)]",
    ),
    Mutation(
        "something_moves_every_job_on",
        "recovery.py",
        "        case JobState.RUNNING:\n",
        "        case JobState.RUNNING if job.started is None:\n",
    ),
    Mutation(
        "no_timer_is_left_behind",
        "state_machine.py",
        "return running, [*disarm(Timer.START), *arm_run(running)]",
        "return running, arm_run(running)",
    ),
    Mutation(
        "deadlines_stay_where_they_are",
        "recovery.py",
        "submitted=Instant(job.submitted.wall, now.boot - (now.wall - job.submitted.wall))",
        "submitted=Instant(job.submitted.wall, now.boot)",
    ),
    Mutation(
        "deadlines_stay_where_they_are",
        "steps.py",
        "job.started.boot + job.order.run_timeout",
        "job.submitted.boot + job.order.run_timeout",
    ),
    Mutation(
        "only_what_fits_the_state_is_to_be_done",
        "state_machine.py",
        "stopping, instructions = _cancel_live(job, event, patience)\n"
        "    return stopping, [ResolveLaunch(), *instructions]",
        "stopping, instructions = _cancel_live(job, event, patience)\n"
        "    return stopping, [AttachJob(), *instructions]",
    ),
    Mutation(
        "only_what_fits_the_state_is_to_be_done",
        "state_machine.py",
        "    if event.timer is not Timer.START:\n",
        "    if event.timer is Timer.LINGER:\n",
    ),
    Mutation(
        "what_changes_nothing_is_not_written",
        "state_machine.py",
        "def _gone(job: Job, _event: JobGone, _patience: Patience) -> Step:\n"
        "    if not job.lingering:",
        "def _gone(job: Job, _event: JobGone, _patience: Patience) -> Step:\n"
        "    if not job.state.ended:",
    ),
    Mutation(
        "recovering_again_changes_nothing",
        "recovery.py",
        "import ArmTimer, AttachJob, Instruction, ResolveLaunch, Timer",
        "import ArmTimer, AttachJob, Instruction, Timer, StartJob as ResolveLaunch",
    ),
    Mutation(
        "every_job_ends_and_frees_its_slot",
        "recovery.py",
        "return ResolveLaunch() if job.started is None else AttachJob()",
        "return AttachJob()",
    ),
    Mutation(
        "every_job_ends_and_frees_its_slot",
        "state_machine.py",
        "return job, [ArmTimer(Timer.LINGER, event.at.boot + patience.rekill)]",
        "return job, []",
    ),
    Mutation(
        "InvalidTransition",
        "losing.py",
        "    return event.launch <= settled",
        "    return event.launch < settled",
    ),
    Mutation(
        "InvalidTransition",
        "state_machine.py",
        "    (_S.STARTING, JobExited): _to(_exit, _S.SUCCEEDED, _S.FAILED),\n",
        "",
    ),
]


def main() -> int:
    """Play against each broken copy; return the exit status."""
    parser = argparse.ArgumentParser(description="Break the pure core and look who notices.")
    parser.add_argument("--examples", type=int, default=3000, help="the most runs for each row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--play", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a check")
    options = parser.parse_args()
    if options.play:
        return play(options.names, examples=options.examples, seed=options.seed)
    arguments = [f"--examples={options.examples}", f"--seed={options.seed}"]
    # Otherwise a test that always fails would pass for one that catches everything.
    if broken(None, arguments):
        print("error: the test fails without any mutation")
        return 1
    rows = [row for row in MUTATIONS if not options.names or row.check in options.names]
    survivors = [row for row in rows if not broken(row, [*arguments, row.check])]
    print(f"{len(rows) - len(survivors)} of {len(rows)} caught")
    return 1 if survivors or not rows else 0


def broken(row: Mutation | None, arguments: list[str]) -> bool:
    """Play against a copy of the package, with a mutation or none; return whether it failed."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / PACKAGE.name
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        if row is not None:
            mutate(copy / row.file, row)
        places = os.pathsep.join([folder, str(ROOT / "tests")])
        result = subprocess.run(
            [sys.executable, __file__, "--play", *arguments],
            env={**os.environ, "PYTHONPATH": places},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode not in {CAUGHT, SURVIVED} or not result.stdout:
        sys.exit(f"error: could not play: {result.stderr}")
    what = "no mutation" if row is None else f"{row.check}: {row.told}"
    print(f"{result.stdout.strip():<24} {what}", flush=True)
    return result.returncode == CAUGHT


def mutate(module: Path, row: Mutation) -> None:
    """Break a module."""
    text = module.read_text(encoding="utf-8")
    if text.count(row.old) != 1:
        sys.exit(f"error: {row.file} has {text.count(row.old)} times, not once: {row.old!r}")
    module.write_text(text.replace(row.old, row.new), encoding="utf-8")


def play(checks: list[str], *, examples: int, seed: int) -> int:
    """Run the stateful test with one check, or all; return whether that failed."""
    # Only here: this is the process in which the package is the copy.
    import hypothesis  # noqa: PLC0415
    from hypothesis.stateful import run_state_machine_as_test  # noqa: PLC0415

    import wsclean_workerd  # noqa: PLC0415
    from unit.test_state_machine_stateful import JobsOfAHost  # noqa: PLC0415

    if Path(wsclean_workerd.__file__).parent.parent != Path.cwd():
        sys.exit("error: this is not the copy")
    runs = 0

    @hypothesis.seed(seed)
    def machine() -> JobsOfAHost:
        nonlocal runs
        runs += 1
        jobs = JobsOfAHost()
        invariants = jobs.invariants_of_jobs
        if checks:
            invariants.all = [each for each in invariants.all if each.__name__ in checks]
        return jobs

    how = hypothesis.settings(
        JobsOfAHost.TestCase.settings,
        max_examples=examples,
        phases=[hypothesis.Phase.generate],
        database=None,
    )
    try:
        # A function will do, says its documentation.
        run_state_machine_as_test(machine, settings=how)  # type: ignore[arg-type]
    except Exception as error:  # noqa: BLE001 - whatever it is, it has to be the one expected
        frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        if not checks or {*checks} & {*frames, type(error).__name__}:
            print(f"caught by run {runs}")
            return CAUGHT
        print(f"only caught by {type(error).__name__} in {frames[-1]}")
        return SURVIVED
    print(f"survived {runs} runs")
    return SURVIVED


if __name__ == "__main__":
    sys.exit(main())

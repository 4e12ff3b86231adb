"""Running a matrix: jobs go to Dask as devices are free, run folders come back, and the journal says what is finished.

The scheduler holds one or two jobs for each device, the client the others: what Dask queues for a device stays with it,
also when another is free. Whatever dies, the same command asks only what is not finished: a job that a host finished
and nobody fetched is fetched, one that still runs is waited for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from distributed import Client

from harness.core.errors import DeviceError, StorageError, UsageError
from harness.core.progress import SILENT, Progress
from harness.farm import store
from harness.farm.execute import ANSWERED, run_job
from harness.farm.job import (
    Cancelled,
    DeviceFailed,
    JobOutcome,
    JobSpec,
    LacksFile,
    TakenOut,
    from_text,
    to_text,
)
from harness.farm.matrix import Matrix, is_host, needs
from harness.farm.node import (
    QUEUE,
    Farm,
    FarmWorker,
    Unreached,
    absent_sentence,
    configure,
    workers_of,
)
from harness.farm.record import MatrixRecord
from harness.farm.transfer import HostGone, call, fetch, push

MOST_DEVICE_FAILURES = 3
LOOK_SECONDS = 0.5
END_SECONDS = 30.0
# From here on a benchmark of a phone may be that of its host; what drives one phone takes a fraction of a core.
BUSY_CORES = 0.5


def run_matrix(
    farm: Farm, matrix: Matrix, record: MatrixRecord, progress: Progress = SILENT, *, again: bool = False
) -> None:
    """Have the jobs of a matrix done that are not finished yet; `again`: those that failed or timed out too.

    Raises:
        DeviceError: the scheduler is not reached within the patience. StorageError: the disk is full. What ends this
            by force, Ctrl-C too, ends the jobs on their devices first.
    """
    configure()
    left = record.begin(matrix, again=again)
    drive = _Drive(farm, matrix, record, progress, left)
    with _without_a_loop_s_last_words():
        try:
            asyncio.run(drive.all())
        except BaseException:
            if left:
                progress.note("Ending what runs on the farm …")
                with suppress(Exception):
                    asyncio.run(drive.end())
            record.end("interrupted")
            raise
    record.end("done")


@contextmanager
def _without_a_loop_s_last_words() -> Iterator[None]:
    """What Dask still had to say on a connection that an interrupt has closed is logged with a traceback."""
    log = logging.getLogger("tornado.application")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


@dataclass
class _Drive:
    farm: Farm
    matrix: Matrix
    record: MatrixRecord
    progress: Progress
    left: list[JobSpec]
    workers: list[FarmWorker] = field(default_factory=list)
    flying: dict[asyncio.Task[None], JobSpec] = field(default_factory=dict)
    failures: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    absent_since: dict[tuple[str, ...], float] = field(default_factory=dict)
    queues: defaultdict[tuple[str, ...], deque[JobSpec]] = field(default_factory=lambda: defaultdict(deque))
    known: set[tuple[str, str]] = field(default_factory=set)
    greeted: set[str] = field(default_factory=set)
    running_elsewhere: dict[str, str] = field(default_factory=dict)
    doable: set[JobSpec] = field(default_factory=set)
    """What some device did, without id and repetition."""
    pushing: defaultdict[tuple[str, str], asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    total: int = 0
    done: int = 0

    async def all(self) -> None:
        """Until nothing is left that can be done."""
        self.total = len(self.left)
        for spec in self.left:
            self.queues[needs(spec.device)].append(spec)
        done = {job for job, row in self.record.finished.items() if row["exit_code"] in ANSWERED}
        self.doable |= {_kind(spec) for spec in self.matrix.jobs if spec.id in done}
        if not self.left:
            return
        self.progress.stage("1 job" if self.total == 1 else f"{self.total} jobs", 60.0 * self.total)
        until = time.monotonic() + self.farm.patience
        told = Unreached(self.farm.scheduler, self.progress.note, f"for {self.farm.patience:g} s")
        while self._pending():
            try:
                async with self.farm.client() as client:
                    until = time.monotonic() + self.farm.patience
                    told.note("")
                    await self._session(client)
            except (TimeoutError, OSError, HostGone) as error:
                why = str(error) or type(error).__name__
                if time.monotonic() > until:
                    raise DeviceError(
                        f"{self.farm.scheduler} was not reached for {self.farm.patience:g} s ({why[:200]}).",
                        "Start it with `harness farm scheduler`, and run this command again.",
                    ) from None
                told.note(why[:200])
                await asyncio.sleep(min(2.0, self.farm.patience))

    def _pending(self) -> int:
        return sum(map(len, self.queues.values())) + len(self.flying)

    async def _session(self, client: Client) -> None:
        """While one connection lasts."""
        self.greeted.clear()
        self.known.clear()
        self.running_elsewhere.clear()
        try:
            told = 0.0
            while self._pending() and client.status == "running":
                self.workers = await workers_of(client)
                await self._greet(client)
                self._give_out(client)
                self._notice_absent()
                if time.monotonic() - told > 5:
                    told = time.monotonic()
                    await client.set_metadata([QUEUE, client.id], self._queue())
                if self.flying:
                    await asyncio.wait(set(self.flying), timeout=LOOK_SECONDS, return_when="FIRST_COMPLETED")
                else:
                    await asyncio.sleep(LOOK_SECONDS)
                self._collect()
            if not self._pending():
                await client.set_metadata([QUEUE, client.id], self._queue())
        finally:
            for task in self.flying:
                task.cancel()
            if self.flying:
                await asyncio.wait(set(self.flying), timeout=10)
            self._collect(again=True)
        if self._pending():
            raise OSError("the connection ended")

    def _queue(self) -> dict[str, Any]:
        return {
            "matrix": str(self.matrix.path),
            "waiting": sum(map(len, self.queues.values())),
            "running": len(self.flying),
            "done": self.done,
        }

    def _collect(self, *, again: bool = False) -> None:
        """Take note of jobs that came to an end here; errors of ours and of this machine's pass through."""
        for task in [task for task in self.flying if task.done() or again]:
            spec = self.flying.pop(task)
            if not task.done() or task.cancelled():
                self._again(spec)
                continue
            error = task.exception()
            if isinstance(error, HostGone | OSError):
                self._again(spec)
            elif error is not None:
                raise error

    async def _greet(self, client: Client) -> None:
        """Ask hosts that are new here what they finished, and what still runs there."""
        left = [spec.id for queue in self.queues.values() for spec in queue]
        for worker in self.workers:
            again = worker.keeper in self.running_elsewhere.values()
            if not worker.keeper or (worker.address in self.greeted and not again):
                continue
            function = store.held if worker.address in self.greeted else store.begin
            with suppress(HostGone):
                if stale := self.record.to_forget(worker.keeper):
                    await call(client, worker.address, store.drop, self.record.id, stale)
                    self.record.forgot(worker.keeper, stale)
                held = await call(client, worker.address, function, self.record.id, left)
                self.greeted.add(worker.address)
                running = set(held["running"])
                gone = {j for j, host in self.running_elsewhere.items() if host == worker.keeper} - running
                for job in gone:
                    del self.running_elsewhere[job]
                self.running_elsewhere |= dict.fromkeys(running, worker.keeper)
                for text in held["finished"]:
                    await self._keep_finished(client, worker.address, text)

    async def _keep_finished(self, client: Client, keeper: str, text: str) -> None:
        """A job that a host finished before. Raises HostGone, and the job waits on then."""
        try:
            outcome = from_text(JobOutcome, text).check()
        except UsageError:
            return  # it is asked again, and then says so
        spec = self._taken(outcome.job)
        if spec is None:
            return
        try:
            await self._keep(client, keeper, spec, outcome)
        except UsageError as error:
            self._give_up(spec, str(error))
        except BaseException:
            self._again(spec)
            raise

    def _again(self, spec: JobSpec) -> None:
        """A job has to be asked again, unless it was cut short only after it was written down."""
        if spec.id not in self.record.finished:
            self.queues[needs(spec.device)].appendleft(spec)

    def _give_up(self, spec: JobSpec, reason: str) -> None:
        self.record.gave_up(spec, reason)
        self.progress.note(f"{spec.command} {spec.model} on {spec.device}: {reason}")
        self._count()

    def _taken(self, job: str) -> JobSpec | None:
        """A job that waits here, out of its queue."""
        for queue in self.queues.values():
            for spec in queue:
                if spec.id == job:
                    queue.remove(spec)
                    return spec
        return None

    def _give_out(self, client: Client) -> None:
        greeted = {worker.keeper for worker in self.workers if worker.address in self.greeted}
        devices = [worker for worker in self.workers if not worker.keeper and worker.host in greeted]
        flying: defaultdict[tuple[str, ...], int] = defaultdict(int)
        for spec in self.flying.values():
            flying[needs(spec.device)] += 1
        for need, queue in self.queues.items():
            fitting = [worker for worker in devices if worker.offers >= set(need)]
            # The last ones are given out one by one, so that none waits behind another while a device is free.
            most = len(fitting) * (2 if len(queue) > 2 * len(fitting) else 1)
            passed = 0
            while len(queue) > passed and flying[need] < most and len(self.flying) < 2 * len(devices):
                spec = queue.popleft()
                if spec.id in self.running_elsewhere:
                    queue.append(spec)
                    passed += 1
                    continue
                flying[need] += 1
                task = asyncio.ensure_future(self._one(client, spec, {worker.host for worker in fitting}))
                self.flying[task] = spec

    def _notice_absent(self) -> None:
        now = time.monotonic()
        devices = [worker for worker in self.workers if not worker.keeper]
        for need, queue in self.queues.items():
            if not queue or any(worker.offers >= set(need) for worker in devices):
                self.absent_since.pop(need, None)
                continue
            if now - self.absent_since.setdefault(need, now) >= self.farm.absent_after:
                why = absent_sentence(need, self.farm.absent_after, self.workers)
                self.progress.note(
                    f"{why} {'One job waits' if len(queue) == 1 else f'{len(queue)} jobs wait'} for it; left for now."
                )
                while queue:
                    self.record.mark(queue.popleft(), "absent", why)
                    self._count()

    def _count(self) -> None:
        self.done += 1
        self.progress.fraction(self.done / self.total)

    async def _one(self, client: Client, spec: JobSpec, hosts: Iterable[str]) -> None:
        """One job: its files there, its run folder here. Raises HostGone where it is to be asked again."""
        for host in hosts:
            for digest in filter(None, (spec.sha256, spec.inputs)):
                await self._push(client, host, spec.matrix, digest)
        self.record.mark(spec, "running")
        future = client.submit(
            run_job,
            to_text(replace(spec, done_before=_kind(spec) in self.doable)),
            key=f"job-{spec.matrix}-{spec.id}",
            resources=dict.fromkeys(needs(spec.device), 1),
            retries=0,
            pure=False,
        )
        try:
            text = await future
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise HostGone("the scheduler is gone") from None
        except LacksFile as error:
            self.known = {(host, digest) for host, digest in self.known if digest != error.message}
            raise HostGone(error.message) from None
        except (DeviceFailed, StorageError) as error:
            self.failures[spec.id].append(str(error))
            if len(self.failures[spec.id]) < MOST_DEVICE_FAILURES:
                raise HostGone(str(error)) from None
            self._give_up(spec, f"{MOST_DEVICE_FAILURES} devices failed; the last: {error}")
            return
        except (TakenOut, Cancelled) as error:
            await asyncio.sleep(LOOK_SECONDS)
            raise HostGone(str(error)) from None
        except UsageError as error:
            self._give_up(spec, str(error))
            return
        except Exception as error:  # noqa: BLE001 - a worker that went, in Dask's many words
            await asyncio.sleep(LOOK_SECONDS)
            raise HostGone(str(error)) from None
        finally:
            future.release()
        try:
            outcome = from_text(JobOutcome, text).check()
            # One that was not greeted may give what came of the job before it was asked again.
            greeted = (w.address for w in self.workers if w.keeper == outcome.host and w.address in self.greeted)
            keeper = next(greeted, None)
            if keeper is None:
                await asyncio.sleep(LOOK_SECONDS)
                raise HostGone(f"{outcome.host} is gone, or is new here")
            await self._keep(client, keeper, spec, outcome)
        except UsageError as error:
            self._give_up(spec, str(error))

    async def _push(self, client: Client, host: str, matrix: str, digest: str) -> None:
        async with self.pushing[host, digest]:
            if (host, digest) in self.known:
                return
            keeper = next((worker.address for worker in self.workers if worker.keeper == host), None)
            if keeper is None:
                raise HostGone(f"{host} is gone")
            if await call(client, keeper, store.lacking, [digest]):
                await push(client, keeper, matrix, digest, self.matrix.files[digest])
            self.known.add((host, digest))

    async def _keep(self, client: Client, keeper: str, spec: JobSpec, outcome: JobOutcome) -> None:
        if outcome.job != spec.id:
            raise UsageError(f"{outcome.host} answered for job {outcome.job}, not {spec.id}.", "Use one release.")
        partial = self.record.incoming / spec.id if outcome.run else None
        if partial is not None:
            await fetch(client, keeper, spec, outcome, partial)
        self.record.arrived(spec, outcome, partial)
        if outcome.exit_code in ANSWERED:
            self.doable.add(_kind(spec))
        self._count()
        if outcome.state != "done" or outcome.exit_code not in (0, 1, 4):
            why = outcome.reason or f"it ended with {outcome.exit_code}"
            self.progress.note(f"{spec.command} {spec.model} on {outcome.serial}: {why}")
        busy = outcome.cores_busy or 0.0
        if spec.command == "bench" and not is_host(spec.device) and busy >= BUSY_CORES:
            told = f"{spec.command} {spec.model} on {outcome.serial}: the cores of {outcome.host} were {busy:.0%} busy."
            self.progress.note(f"{told} What went over its cables may have waited.")
        with suppress(HostGone):
            await call(client, keeper, store.drop, spec.matrix, [spec.id])

    async def end(self) -> None:
        """End what runs on the farm for this matrix, and wait for that."""
        until = time.monotonic() + END_SECONDS
        async with self.farm.client() as client:
            keepers = [worker.address for worker in await workers_of(client) if worker.keeper]
            while keepers and time.monotonic() < until:
                still = [keeper for keeper in keepers if await call(client, keeper, store.cancel, self.record.id)]
                if not still:
                    return
                keepers = still
                await asyncio.sleep(LOOK_SECONDS)


def _kind(spec: JobSpec) -> JobSpec:
    """The same for all repetitions of a job."""
    return replace(spec, id="", repetition=0)

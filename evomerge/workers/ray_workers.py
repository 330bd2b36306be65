"""Workers as Ray actors: local ones, or those of an existing cluster. Ray is used only here."""

import logging
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Literal

import ray
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from typing_extensions import override

from evomerge.core.errors import ConfigError, EvomergeError, WorkersError
from evomerge.core.outcomes import Failed
from evomerge.core.worker_state import Incident, WorkerState
from evomerge.workers.cluster_head import ClusterHead
from evomerge.workers.contract import Job, JobResult, MakeEvaluation, Workers
from evomerge.workers.copied_places import copied, copies_folder, list_place, read_part
from evomerge.workers.ray_options import RayOptions, resources_text
from evomerge.workers.ray_slot import Slot, Task, cause_of_death, pause_after
from evomerge.workers.worker_process import Ready, Refused, WorkerProcess

RETRIES = 2
"""So often a job is given to another worker when its worker has died."""

_STARTS, _STARTS_LATER = 3, 12
"""So often in a row a worker may die before it is ready; then it is given up. What others have
shown to be possible is tried more often, with pauses."""

_START_SECONDS = 1800.0
"""After which a run without a single ready worker ends; copies take their time."""

_ASLEEP = 5.0
"""Between two looks; more means that the driver itself was stopped."""

_LOOK_SECONDS = 1.0
"""Between looks at timeouts while nothing comes in."""

_OBJECT_STORE = 200 * 2**20
"""Bytes for what travels between driver and local workers: recipes and answers, no weights."""

_Kind = Literal["ready", "done", "memory"]


class RayWorkers(Workers):
    """Actors with one resident model each.

    A worker that dies is replaced, wherever there is room, and its job is given to another at
    most twice. A job that takes too long or too much memory fails. Workers without room wait
    until a machine joins.

    Args:
        make: Builds the evaluation, in each worker; importable there.
        options: How many, and what each may use.

    Raises:
        ConfigError: Not even one worker fits on this machine.
        WorkersError: There is no cluster at the address.
    """

    def __init__(self, make: MakeEvaluation, options: RayOptions) -> None:
        self._make = make
        self._options = options
        self._joined = _connect(options.address)
        self._local = self._joined and options.address is None
        self._head = ClusterHead(str(ray.get_runtime_context().gcs_address))
        self._node = str(ray.get_runtime_context().get_node_id())
        self._events: queue.SimpleQueue[tuple[int, int, _Kind, Any]] = queue.SimpleQueue()
        self._waiting: deque[Task] = deque()
        self._done: deque[tuple[Job, JobResult]] = deque()
        self._open = 0
        self._incidents: list[Incident] = []
        self._last = ""  # that befell a worker
        self._first: Ready | None = None
        self._refusal: EvomergeError | None = None
        self._refusing: set[str] = set()  # machines
        self._looked = self._seen_ready = time.monotonic()
        self._slots: list[Slot] = []
        # The memory of a worker is watched beside its job, in a thread of its own.
        self._actors = ray.remote(concurrency_groups={"watch": 1})(_WorkerActor)
        try:
            count = options.that_fit(ray.cluster_resources()) if self._local else options.count
        except ConfigError:
            self.close()
            raise
        self._slots = [Slot(number) for number in range(count)]
        for slot in self._slots:
            self._start(slot)

    # ---- the contract

    @property
    @override
    def settings(self) -> Mapping[str, Any]:
        return self._first_ready().settings

    @property
    @override
    def plan(self) -> tuple[str, ...]:
        first = self._first_ready()
        where = "local Ray" if self._local else f"the Ray cluster at {self._head.address}"
        said = self._options.described(len(self._slots), where)
        if len(self._slots) < self._options.count:
            have = resources_text(ray.cluster_resources())
            said += f"; no more of the {self._options.count} asked for fit on {have}"
        return (said, *first.facts)

    @property
    @override
    def capacity(self) -> int:
        return max(1, sum(slot.condition != "lost" for slot in self._slots))

    @override
    def submit(self, job: Job) -> None:
        self._waiting.append(Task(job))
        self._open += 1
        self._assign()

    @override
    def finished(self, wait: float | None = None) -> tuple[Job, JobResult] | None:
        if not self._open:
            raise LookupError("no job is open")
        until = None if wait is None else time.monotonic() + wait
        while not self._done:
            now = time.monotonic()
            if until is not None and now >= until:
                return None
            self._go_on(_LOOK_SECONDS if until is None else min(_LOOK_SECONDS, until - now))
        self._open -= 1
        return self._done.popleft()

    @override
    def states(self) -> tuple[WorkerState, ...]:
        now = time.monotonic()
        return tuple(slot.state(now) for slot in self._slots)

    @override
    def incidents(self) -> tuple[Incident, ...]:
        told, self._incidents = tuple(self._incidents), []
        return told

    @override
    def close(self) -> None:
        self._waiting.clear()
        self._done.clear()
        self._open = 0
        handles = [slot.actor for slot in self._slots if slot.actor is not None]
        self._slots = []
        if not ray.is_initialized():
            return
        for handle in handles if self._head.answers() else ():
            ray.kill(handle)
        if self._joined:
            ray.shutdown()

    # ---- what comes in

    def _first_ready(self) -> Ready:
        while self._first is None:
            self._go_on(_LOOK_SECONDS)
        return self._first

    def _go_on(self, wait: float) -> None:
        """Take the next event, if one comes in time, and look after everything."""
        try:
            event = self._events.get(timeout=wait)
        except queue.Empty:
            event = None
        while event is not None:
            self._take(*event)
            event = self._events.get_nowait() if not self._events.empty() else None
        self._look_after()
        self._assign()

    def _listen(self, slot: Slot, kind: _Kind, answer: Any) -> None:  # noqa: ANN401 - ObjectRef
        number, life = slot.number, slot.life
        answer.future().add_done_callback(lambda f: self._events.put((number, life, kind, f)))

    def _take(self, number: int, life: int, kind: _Kind, answer: Any) -> None:  # noqa: ANN401 - Future
        slot = self._slots[number]
        if life != slot.life:
            return  # of a process that has been replaced
        error = answer.exception()
        if isinstance(error, RayTaskError) and kind != "ready":
            raise error.cause or error
        if kind == "memory":
            if error is None:  # otherwise its death is told by the job's own answer
                # What jobs before it have left behind is not this one's fault.
                why = self._options.too_large(answer.result())
                self._give_up(slot, why, again=not slot.fresh)
        elif error is not None:
            self._died(slot, error)
        elif kind == "ready":
            self._prepared(slot, answer.result())
        else:
            task = slot.end_job(time.monotonic())
            if task is not None:
                self._done.append((task.job, answer.result()))

    def _prepared(self, slot: Slot, result: Ready | Refused) -> None:
        if isinstance(result, Ready):
            self._first = self._first or result
            result = self._first.comparable(result)
        if isinstance(result, Refused):
            self._refusal = self._refusal or result.error
            self._refusing.add(result.machine)
            self._note(slot, f"its machine cannot be used: {result.error}", None)
            self._replace(slot)
            return
        self._seen_ready = time.monotonic()
        slot.is_ready(time.monotonic(), result.node)
        if self._options.memory is not None and slot.actor is not None:
            watch = slot.actor.over_memory.options(concurrency_group="watch")
            self._listen(slot, "memory", watch.remote(self._options.memory))

    # ---- looking after workers

    def _start(self, slot: Slot) -> None:
        options = self._options
        actor = self._actors.options(
            num_cpus=options.cpus,
            num_gpus=options.gpus,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": dict(options.environment)},
            label_selector=self._elsewhere(),
        )
        slot.begin(actor.remote(self._make, options.copies, self._node))
        self._listen(slot, "ready", slot.actor.prepare.remote())

    def _assign(self) -> None:
        idle = [slot for slot in self._slots if slot.condition == "idle"]
        while self._waiting and idle:
            slot = idle.pop(0)
            task = self._waiting.popleft()
            slot.begin_job(task, time.monotonic())
            self._listen(slot, "done", slot.actor.do.remote(task.job))

    def _look_after(self) -> None:
        now, limit = time.monotonic(), self._options.timeout
        before, self._looked = self._looked, now
        asleep = now - before if now - before > _ASLEEP else 0.0
        for slot in self._slots:
            if slot.actor is None and slot.condition == "starting" and now >= slot.since:
                self._start(slot)
            if slot.since < before:
                slot.since += asleep
            if limit is not None and slot.condition == "busy" and now - slot.since > limit:
                self._give_up(
                    slot,
                    f"took longer than the {limit:g} s of workers.timeout; its worker was "
                    "replaced",
                )
        self._head.check(now)
        if any(slot.ready for slot in self._slots):
            self._seen_ready = now
        elif self._first is None and self._refusal and not self._willing():
            raise self._refusal
        elif now - self._seen_ready > _START_SECONDS:
            have = ray.cluster_resources()
            raise WorkersError(self._options.no_room(have, _START_SECONDS / 60))
        if self._slots and all(slot.condition == "lost" for slot in self._slots):
            raise WorkersError(f"every worker died before it was ready: {self._last}")

    def _elsewhere(self) -> dict[str, str]:
        """Selects machines on which nothing has been refused."""
        named = ", ".join(sorted(self._refusing))
        return {"ray.io/node-id": f"!in({named})"} if named else {}

    def _willing(self) -> bool:
        """Whether there is a machine left that is large enough and has not refused."""
        return any(
            node["Alive"]
            and node["NodeID"] not in self._refusing
            and self._options.fit(node["Resources"])
            for node in ray.nodes()
        )

    def _give_up(self, slot: Slot, why: str, *, again: bool = False) -> None:
        """Replace a worker; its job fails with the reason, or is begun again."""
        task = slot.end_job(time.monotonic())
        self._note(slot, why, task)
        if task is not None and again:
            self._waiting.appendleft(task)
        elif task is not None:
            self._done.append((task.job, Failed("worker", why)))
        self._replace(slot)

    def _died(self, slot: Slot, error: BaseException) -> None:
        why = cause_of_death(error)
        ready = slot.ready
        task = slot.end_job(time.monotonic())
        if task is not None:
            task.attempts += 1
            if task.attempts <= RETRIES:
                self._waiting.appendleft(task)
                why += "; its job goes to another worker"
            else:
                reason = f"its worker died {task.attempts} times, the last time: {why}"
                self._done.append((task.job, Failed("worker", reason)))
        self._note(slot, why, task)
        slot.early_deaths = 0 if ready else slot.early_deaths + 1
        if slot.early_deaths < (_STARTS if self._first is None else _STARTS_LATER):
            self._replace(slot, pause_after(slot.early_deaths))
        else:
            slot.lose()

    def _replace(self, slot: Slot, pause: float = 0.0) -> None:
        if slot.actor is not None:
            ray.kill(slot.actor)
        slot.restarts += 1
        slot.rest(time.monotonic() + pause)

    def _note(self, slot: Slot, what: str, task: Task | None) -> None:
        number = task.job.number if task else None
        self._last = what
        self._incidents.append(Incident(time.time(), slot.name, what, number))


class _WorkerActor(WorkerProcess):
    """A worker process that can fetch what lies on the driver's machine.

    Args:
        make: Builds the evaluation here.
        places: Folders and files that are copied here first.
        origin: Id of the node where they lie.
    """

    def __init__(self, make: MakeEvaluation, places: tuple[str, ...], origin: str) -> None:
        super().__init__(make)
        self._places = places
        self._origin = origin

    @override
    def machine(self) -> str:
        return str(ray.get_runtime_context().get_node_id())

    @override
    def copies(self) -> Mapping[str, str]:
        if self.machine() == self._origin:
            return {}
        there = {
            "num_cpus": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(self._origin, soft=False),
        }
        lister, reader = (ray.remote(f).options(**there) for f in (list_place, read_part))

        def read(place: str, name: str, start: int, length: int) -> bytes:
            part: bytes = ray.get(reader.remote(place, name, start, length))
            return part

        return {
            place: str(copied(place, ray.get(lister.remote(place)), read, copies_folder()))
            for place in self._places
        }


def _connect(address: str | None) -> bool:
    """Connect to a cluster; False where this process is connected to one already.

    Raises:
        WorkersError: There is none at the address.
    """
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray").setLevel(logging.ERROR)
    local: dict[str, Any] = {
        "address": "local",
        "include_dashboard": False,
        "object_store_memory": _OBJECT_STORE,
    }
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            **(local if address is None else {"address": address}),
            log_to_driver=False,
            configure_logging=False,
            logging_level="ERROR",
        )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        where = "local Ray cannot be started" if address is None else f"no cluster at {address}"
        why = " ".join(str(error).split()).rstrip(".")
        raise WorkersError(
            f"workers.address: {where}: {why}. Start one with 'ray start --head', or leave the "
            "address out for workers on this machine."
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray takes it for itself
    return True

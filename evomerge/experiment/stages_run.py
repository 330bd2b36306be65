"""Run and resume a chain of searches: one ordinary run directory a stage."""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from evomerge.core.atomic_write import write_text
from evomerge.core.errors import CheckpointError, ConfigError, EvomergeError, StoreError
from evomerge.core.model_spelling import map_parts, model_parts
from evomerge.experiment.load import Experiment, with_other_workers
from evomerge.experiment.models_and_space import Problems, open_models_and_space
from evomerge.experiment.places import moved, relative_places, with_places
from evomerge.experiment.prepare import Prepared, prepare
from evomerge.experiment.session import (
    COPY,
    ResumeOptions,
    RunOptions,
    as_asked,
    begin,
    free_run_dir,
    make_run_dir,
    refuse_used,
    resume,
)
from evomerge.experiment.spec import ExperimentSpec
from evomerge.experiment.stage_observer import StageObserver
from evomerge.experiment.stages_fix import best_candidate, with_fixed
from evomerge.experiment.stages_kept import Handing, keep_models
from evomerge.experiment.stages_prepare import PreparedChain, prepare_chain
from evomerge.experiment.stages_spec import StageModel
from evomerge.experiment.study_chain import StudyChain
from evomerge.experiment.yaml_lines import YamlFile
from evomerge.recipes.yaml_text import dump_yaml
from evomerge.report.chain_page import write_chain_report
from evomerge.report.chain_summary import what_was_kept
from evomerge.search.observer import Announcement, Observer
from evomerge.store.chain_record import FILE_NAME, ChainRecord, StageRecord, is_chain, read_kept
from evomerge.store.run_lock import RunLock
from evomerge.store.study_store import FILE_NAME as STUDY_FILE
from evomerge.store.study_store import StudyStore


def start_chain(path: Path, options: RunOptions) -> StudyChain:
    """Run a chain of searches from its beginning.

    Raises:
        EvomergeError: See the tree in ``evomerge.core.errors``.
        KeyboardInterrupt: Stopped; the chain is whole and can be resumed.
    """
    if options.warm_start is not None:
        raise ConfigError(
            "--warm-start: a chain of stages begins without; leave it out, or run its first "
            "stage as an experiment of its own."
        )
    if options.out is not None:
        _refuse_used(options.out)
    prepared = prepare_chain(path, options.overrides, offline=options.offline)
    run_dir = options.out or free_run_dir(prepared.chain.name)
    make_run_dir(run_dir)
    with RunLock(run_dir):
        record = _recorded(prepared, run_dir)
        write_text(run_dir / COPY, as_asked(path, options.overrides))
        record.write(run_dir)
        options.observer.announce(
            Announcement(run_dir, (), (*prepared.summary, f"chain directory: {run_dir}"))
        )
        resumed = ResumeOptions(offline=options.offline, observer=options.observer)
        walk = _Walk(run_dir, record, resumed)
        try:
            walk.go(prepared.first)
        except BaseException:
            if not walk.begun(record.stages[0]):  # nothing is in the way of another try
                for name in (COPY, FILE_NAME):
                    (run_dir / name).unlink(missing_ok=True)
                shutil.rmtree(run_dir / record.stages[0].folder, ignore_errors=True)
            raise
    return StudyChain(run_dir)


def resume_chain(run_dir: Path, options: ResumeOptions) -> StudyChain:
    """Go on with a chain from wherever it stands; ``add`` extends its last stage.

    Raises:
        StoreError: In use, no chain, or models, tasks or versions are no longer the same.
        EvomergeError: See the tree in ``evomerge.core.errors``.
        KeyboardInterrupt: Stopped; the chain is whole and can be resumed.
    """
    ChainRecord.read(run_dir)  # before a lock file appears in a folder that is no chain
    with RunLock(run_dir):
        record = ChainRecord.read(run_dir)
        walk = _Walk(run_dir, record, options)
        if options.add and not walk.begun(record.stages[-1]):
            raise ConfigError(
                f"--add {options.add}: extends the last stage, {record.stages[-1].name}, which "
                f"has not begun; first go on with 'evomerge resume {run_dir}'."
            )
        if options.models or options.overrides:
            walk.change()
        options.observer.announce(Announcement(run_dir, (), (f"chain directory: {run_dir}",)))
        walk.go()
    return StudyChain(run_dir)


def _refuse_used(out: Path) -> None:
    if is_chain(out):
        raise StoreError(
            f"{out} holds a chain already; continue it with 'evomerge resume {out}', or choose "
            "another folder with --out."
        )
    refuse_used(out)


def _recorded(prepared: PreparedChain, run_dir: Path) -> ChainRecord:
    stages = tuple(
        StageRecord(
            stage.name,
            stage.folder,
            stage.keep,
            spec.model_dump(mode="json"),
            stage.fix.model_dump(mode="json") if stage.fix is not None else None,
        )
        for stage, spec in zip(prepared.chain.stages, prepared.specs, strict=True)
    )
    return ChainRecord(prepared.chain.name, stages, _relative(prepared.specs, run_dir))


def _relative(specs: Sequence[ExperimentSpec], run_dir: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for spec in specs:
        found |= relative_places(spec, run_dir)
    return found


class _Walk:
    """A chain taken from stage to stage.

    Args:
        run_dir: The chain's folder, locked.
        record: What the chain is.
        options: How to go on.
    """

    def __init__(self, run_dir: Path, record: ChainRecord, options: ResumeOptions) -> None:
        self._run_dir = run_dir
        self._record = record
        self._options = options

    def go(self, first: Prepared | None = None) -> None:
        """Do what is left; every stage's end is on disk before the next begins.

        Args:
            first: The first stage, where that has been prepared already.
        """
        stages = self._record.stages
        try:
            for number, stage in enumerate(stages):
                add = self._options.add if stage is stages[-1] else 0
                if not self._finished(stage) or add:
                    self._search(number, add, first if number == 0 else None)
                if stage.keep and read_kept(self._dir(stage)) is None:
                    self._keep(number)
        finally:
            if self.begun(stages[0]):
                with suppress(EvomergeError, OSError):  # what went wrong first is to be told
                    write_chain_report(self._run_dir)

    def begun(self, stage: StageRecord) -> bool:
        """Whether a stage has a study."""
        return (self._dir(stage) / STUDY_FILE).exists()

    def change(self) -> None:
        """Record new places of models and other workers, for stages that are yet to come.

        Raises:
            ConfigError: No stage has such a model, or something else is to be changed.
        """
        given = {
            name: map_parts(place, lambda part: str(_absolute(part)))
            for name, place in self._options.models.items()
        }
        specs = [self._spec(number) for number in range(len(self._record.stages))]
        known = {
            name: None
            for spec in specs
            for name, model in spec.models.all.items()
            if not any(StageModel.read(part) for part in model_parts(model))
        }
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ConfigError(f"--model: the chain has no model {unknown}; it has {[*known]}.")
        changed = []
        for spec in specs:
            places = {n: p for n, p in given.items() if n in spec.models.all}
            place = self._run_dir / FILE_NAME
            changed.append(
                with_other_workers(with_places(spec, places), place, self._options.overrides)
                if self._options.overrides
                else with_places(spec, places)
            )
        stages = tuple(
            replace(stage, experiment=spec.model_dump(mode="json"))
            for stage, spec in zip(self._record.stages, changed, strict=True)
        )
        places = _relative(changed, self._run_dir)
        self._record = ChainRecord(self._record.name, stages, places)
        self._record.write(self._run_dir)

    # ---- a stage

    def _search(self, number: int, add: int, prepared: Prepared | None) -> None:
        """Run or resume a stage's search to its end."""
        stage = self._record.stages[number]
        options = self._options
        observer = self._observer(number)
        if self.begun(stage):
            models = dict(self._resolved(number).models.all) if options.models else {}
            resume(
                self._dir(stage),
                ResumeOptions(add, models, options.overrides, options.offline, observer),
            )
            return
        spec = self._resolved(number)
        if prepared is None:
            prepared = self._prepared(number, spec)
        begin(
            prepared,
            f"# stage {stage.name} of the chain in ../{COPY}\n"
            + dump_yaml(prepared.spec.model_dump(mode="json", exclude_defaults=True)),
            self._dir(stage),
            RunOptions(offline=options.offline, observer=observer),
        )

    def _prepared(self, number: int, spec: ExperimentSpec) -> Prepared:
        """A stage with the models that earlier ones have made.

        Raises:
            ConfigError, CheckpointError: They do not fit after all, e.g. in depth.
        """
        stage = self._record.stages[number]
        if stage.fix is not None:
            spec = self._fixed(spec, stage.fix["stage"], stage.fix["parameters"])
        place = self._run_dir / stage.folder
        try:
            return prepare(
                Experiment(spec, place, {"": YamlFile(f"stage {stage.name}", {})}),
                offline=self._options.offline,
            )
        except CheckpointError as error:
            raise CheckpointError(
                "\n".join([*str(error).splitlines(), self._cannot_begin(number)])
            ) from error
        except ConfigError as error:
            raise ConfigError([*error.problems, self._cannot_begin(number)]) from error

    def _cannot_begin(self, number: int) -> str:
        stage = self._record.stages[number]
        earlier = " and ".join(s.folder for s in self._record.stages[:number])
        return (
            f"stage {stage.name} cannot begin with the models that it was given; {earlier} in "
            f"{self._run_dir} stand as they are. Begin a chain whose earlier stages keep "
            "models that fit, e.g. as deep as the others."
        )

    def _fixed(
        self, spec: ExperimentSpec, earlier: str, parameters: Sequence[str]
    ) -> ExperimentSpec:
        number = self._place_of(earlier)
        stage = self._record.stages[number]
        problems = Problems()
        place = self._dir(stage)
        opened = open_models_and_space(
            Experiment(self._resolved(number), place, {"": YamlFile(f"stage {earlier}", {})}),
            problems,
            offline=self._options.offline,
        )
        problems.raise_any()
        if opened.space is None:
            raise ConfigError(f"fix: the space of stage {earlier} could not be built.")
        best = best_candidate(place)
        fixed = with_fixed(spec, opened.space, best.genome or {}, parameters)
        said = f"{', '.join(parameters)} stays as {best.name} of stage {earlier} has it"
        self._options.observer.announce(Announcement(self._run_dir, (), (said,)))
        return fixed

    def _keep(self, number: int) -> None:
        stage = self._record.stages[number]
        how = Handing(self._resolved(number).models.all, self._options.offline)
        kept = keep_models(stage, self._dir(stage), how)
        self._options.observer.announce(
            Announcement(self._run_dir, (), (what_was_kept(stage.name, kept),))
        )

    def _observer(self, number: int) -> Observer:
        stages = self._record.stages
        said = f"stage {number + 1} of {len(stages)}, {stages[number].name}"
        return StageObserver(self._options.observer, self._run_dir, said)

    # ---- what a stage is made of

    def _dir(self, stage: StageRecord) -> Path:
        return self._run_dir / stage.folder

    def _finished(self, stage: StageRecord) -> bool:
        if not self.begun(stage):
            return False
        with StudyStore.open(self._dir(stage), read_only=True) as store:
            return bool(store.meta("state") == "finished")

    def _place_of(self, name: str) -> int:
        return [stage.name for stage in self._record.stages].index(name)

    def _spec(self, number: int) -> ExperimentSpec:
        """A stage as recorded, with local places found from where the chain is now."""
        spec = ExperimentSpec.model_validate(self._record.stages[number].experiment)
        return moved(spec, self._run_dir, self._record.relative_places)

    def _resolved(self, number: int) -> ExperimentSpec:
        """A stage with the places of the models that earlier stages have made."""
        spec = self._spec(number)
        places: Mapping[str, str] = {
            name: map_parts(model, self._made) for name, model in spec.models.all.items()
        }
        return with_places(spec, places)

    def _made(self, part: str) -> str:
        """Where a model of an earlier stage lies; anything else as it is."""
        wanted = StageModel.read(part)
        if wanted is None:
            return part
        number = self._place_of(wanted.stage)
        stage = self._record.stages[number]
        kept = read_kept(self._dir(stage))
        if kept is None or len(kept) < wanted.rank:
            raise StoreError(f"{self._dir(stage)}: has not kept what {part!r} stands for.")
        model = kept[wanted.rank - 1]
        if model.folder is not None:
            return str((self._dir(stage) / model.folder).resolve())
        return self._resolved(number).models.all[model.name]


def _absolute(part: str) -> Path | str:
    path = Path(part).expanduser()
    return path.resolve() if path.exists() else part

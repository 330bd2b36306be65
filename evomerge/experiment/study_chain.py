"""StudyChain: a chain of searches with its stages, as Python and the command line see it."""

from pathlib import Path

from evomerge.core.errors import StoreError
from evomerge.experiment.study import Study
from evomerge.report.chain_page import write_chain_report
from evomerge.report.chain_summary import ChainSummary, summarize_chain
from evomerge.store.chain_record import ChainRecord
from evomerge.store.study_store import FILE_NAME


class StudyChain:
    """A chain on disk, finished or not; every method reads it as it stands now.

    Args:
        path: The chain's folder.

    Raises:
        StoreError: There is no chain.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        ChainRecord.read(self.path)

    def __repr__(self) -> str:
        """The chain by its place."""
        return f"StudyChain({str(self.path)!r})"

    @property
    def stages(self) -> dict[str, Study]:
        """The studies of the stages that have begun, by name and in order."""
        record = ChainRecord.read(self.path)
        return {
            stage.name: Study(self.path / stage.folder)
            for stage in record.stages
            if (self.path / stage.folder / FILE_NAME).exists()
        }

    @property
    def study(self) -> Study:
        """The stage that the chain has come to.

        Raises:
            StoreError: None has begun.
        """
        begun = [*self.stages.values()]
        if not begun:
            raise StoreError(f"{self.path}: no stage has begun yet.")
        return begun[-1]

    def summary(self) -> ChainSummary:
        """The numbers of the chain's report."""
        return summarize_chain(self.path)

    def report(self) -> Path:
        """Rebuild the chain's report.html and those of its stages; gives the page's path."""
        for study in self.stages.values():
            study.report()
        write_chain_report(self.path)
        return self.path / "report.html"

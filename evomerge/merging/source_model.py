"""SourceModel: a checkpoint that may take part in a merge, read tensor by tensor."""

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from evomerge.core.errors import CheckpointError
from evomerge.merging.safetensors_header import TensorInfo
from evomerge.merging.tied_embeddings import copied_name, embedding_name, head_name

if TYPE_CHECKING:
    import torch

_SAMPLED_BLOCKS, _BLOCK_BYTES = 8, 4096


class SourceModel:
    """A checkpoint that may take part in a merge; nothing is read before it is asked for.

    What lies on disk in another form, or is computed from several files, is a subclass that
    reads otherwise; whoever merges needs not know.

    Attributes:
        folder: The local folder; for a single file without a folder of its own, the file.
        config: ``config.json``; empty where there is none.
        tensors: The weights by name, in the order of the file or of the index.
    """

    def __init__(
        self, folder: Path, config: dict[str, Any], tensors: Mapping[str, TensorInfo]
    ) -> None:
        self.folder = folder
        self.config = config
        self.tensors = tensors
        self._handles: dict[Path, Any] = {}

    def read(self, name: str, device: "str | torch.device" = "cpu") -> "torch.Tensor":
        """A tensor in its stored dtype, not to be changed; on the CPU a view of the file.

        Raises:
            CheckpointError: There is no such tensor, or the file changed under us.
        """
        file = self._info(name).file
        if file is None:
            raise CheckpointError(f"{self.folder}: {name!r} lies in no file.")
        try:
            if file not in self._handles:
                self._handles[file] = safe_open(file, framework="pt", device="cpu")
            view: torch.Tensor = self._handles[file].get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file}: {name!r} cannot be read: {error}.") from error
        return view if device == "cpu" else view.to(device)

    @property
    def tokenizer_folder(self) -> Path:
        """Where the tokenizer and the chat template lie that go with the weights."""
        return self.folder

    @property
    def own_folder(self) -> Path:
        """Where lies what belongs to these weights alone, such as their statistics."""
        return self.folder

    def side_file(self, name: str) -> Path | None:
        """A small file that goes with the weights, or None where there is none."""
        places = (self.tokenizer_folder / name, self.folder / name)
        return next((place for place in places if place.is_file()), None)

    @property
    def size(self) -> int:
        """Bytes of all weights."""
        return sum(info.bytes for info in self.tensors.values())

    @cached_property
    def tied(self) -> bool:
        """Whether the output head is the input embedding.

        A missing head is tied whatever the config says. Where both are stored they are tied
        if they are equal and the config does not deny it; that reads the two tensors.
        """
        head, embedding = head_name(self.tensors), embedding_name(self.tensors)
        if head is None or embedding is None:
            return True
        if self.config.get("tie_word_embeddings") is False:
            return False
        if not self._may_be_equal(head, embedding):
            return False
        return self.read(head).equal(self.read(embedding))

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the weights, 32 hex digits: wherever they lie and however sharded.

        Covers every tensor's name, dtype, shape and up to eight evenly spread blocks of its
        bytes, so it takes milliseconds; an edit of a few single entries may go unseen.
        """
        seen = hashlib.sha256()
        for name in sorted(self.tensors):
            info = self.tensors[name]
            seen.update(f"{name}\0{info.dtype}\0{info.shape}\0".encode())
            for block in self._sample(info):
                seen.update(block)
        return seen.hexdigest()[:32]

    def without_copies(self) -> "SourceModel":
        """Itself, less the tensors that only repeat another one with equal bytes.

        So that a stochastic merge does not give one parameter two values.
        """
        kept = dict(self.tensors)
        for name in self.tensors:
            original = copied_name(name, kept)
            if original is not None and self._may_be_equal(name, original):
                del kept[name]
        self.tensors = kept
        return self

    def _info(self, name: str) -> TensorInfo:
        if name not in self.tensors:
            raise CheckpointError(f"{self.folder}: has no tensor {name!r}.")
        return self.tensors[name]

    def _may_be_equal(self, name: str, other: str) -> bool:
        """Whether dtype, shape and the sampled blocks of bytes agree."""
        ours, theirs = self.tensors[name], self.tensors[other]
        return (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape) and all(
            a == b for a, b in zip(self._sample(ours), self._sample(theirs), strict=True)
        )

    def _sample(self, info: TensorInfo) -> Iterator[bytes]:
        if info.file is None:
            content = self._contents(info.name)
            for first, count in _sampled_blocks(info.bytes):
                yield content[first : first + count].numpy().tobytes()
            return
        with info.file.open("rb") as handle:
            for first, count in _sampled_blocks(info.bytes):
                handle.seek(info.start + first)
                yield handle.read(count)

    def _contents(self, name: str) -> "torch.Tensor":
        """A tensor's bytes, flat."""
        import torch  # noqa: PLC0415 - takes a second, and most sources are files

        return self.read(name).contiguous().flatten().view(torch.uint8)


def _sampled_blocks(length: int) -> list[tuple[int, int]]:
    if length <= _SAMPLED_BLOCKS * _BLOCK_BYTES:
        return [(0, length)]
    last = length - _BLOCK_BYTES
    offsets = [last * k // (_SAMPLED_BLOCKS - 1) for k in range(_SAMPLED_BLOCKS)]
    return [(offset, _BLOCK_BYTES) for offset in offsets]

"""The JSON files of a model folder: configuration, tokenizer."""

import json
from pathlib import Path
from typing import Any

from evomerge.core.errors import CheckpointError


def read_json_object(file: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        CheckpointError: Unreadable, not JSON, or no object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: expected a JSON object, got {type(content).__name__}.")
    return content

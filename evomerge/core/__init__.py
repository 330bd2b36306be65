"""The shared vocabulary: values and pure functions every other package speaks in."""

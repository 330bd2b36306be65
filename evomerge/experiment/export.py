"""Finished model folders from recipes and from trials of a study."""



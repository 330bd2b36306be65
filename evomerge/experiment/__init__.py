"""An experiment, from its YAML file to live objects."""

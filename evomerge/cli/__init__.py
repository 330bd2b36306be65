"""The command line: arguments in, exit codes out; one file a command."""

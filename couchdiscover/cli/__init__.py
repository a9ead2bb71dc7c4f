"""The command line: the app, its options, the one place that makes an exit code of an outcome."""

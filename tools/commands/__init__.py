"""One file per subcommand of ``skipc``."""

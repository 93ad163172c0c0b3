"""Where progress is shown: standard error, so that standard output holds results alone."""

from rich.console import Console

STDERR = Console(stderr=True)

"""The commands' border: what kinspace refuses becomes one line on stderr and an exit code."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import typer

from compat.errors import KinspaceError, MissingExtraError

P = ParamSpec("P")
R = TypeVar("R")

# What an installation may have left out, and which extra brings it.
_EXTRA_OF = (
    {"zstandard": "device"}
    | dict.fromkeys(
        (
            "fastapi",
            "jinja2",
            "lancedb",
            "matplotlib",
            "prometheus_client",
            "pyarrow",
            "scipy",
            "uvicorn",
        ),
        "server",
    )
    | dict.fromkeys(
        ("efficientnet_lite_pytorch", "kornia", "litert_torch", "onnx", "tensorboard", "torch"),
        "train",
    )
)


def exits(command: Callable[P, R]) -> Callable[P, R]:
    """Decorate a command: a KinspaceError prints ``error: ...`` and exits with its code.

    So does a package of an extra that is not installed. Anything else is a bug and shows its
    traceback.
    """

    @wraps(command)  # typer reads the signature through it
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except KinspaceError as error:
            raise _exit(error) from error
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in _EXTRA_OF:
                raise
            verb = f"kinspace {command.__name__}"
            raise _exit(MissingExtraError(verb, _EXTRA_OF[package], package)) from error

    return run


def _exit(error: KinspaceError) -> typer.Exit:
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(error.exit_code)

"""Converters talk: deprecations of their own dependencies, log lines, notices of C++ libraries."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

_SILENT = {
    "LITERT_TORCH_SHOW_PROGRESS": "n",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # its notice is printed before any log level is read
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep a converter's chatter from our users; errors still arrive, as exceptions.

    Process-wide while it lasts (logging and warnings have no narrower switch), and all of it is put
    back, the root logger's handlers included, which a converter sets.
    """
    environment = {name: os.environ.get(name) for name in _SILENT}
    handlers, disabled = logging.root.handlers[:], logging.root.manager.disable
    os.environ.update(_SILENT)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for category in (DeprecationWarning, FutureWarning, UserWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        logging.disable(disabled)
        logging.root.handlers[:] = handlers
        for name, value in environment.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

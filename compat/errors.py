"""Every refusal, one class per decision of the caller.

KinspaceError                exit
├── UsageError                2   a file, flag or call is wrong: correct it and call again
│   ├── ConfigError               a TOML file: unknown key, bad value
│   ├── DataError                 a data set: missing column, empty split
│   │   └── ImageError            one image cannot be used: the message names it and the cure
│   ├── SpaceError                embeddings of different spaces were about to be compared
│   ├── NotFoundError             a store holds nothing of that name
│   ├── ConflictError             another publisher was first: load what is there and retry
│   └── MissingExtraError         the verb needs an extra that is not installed
├── OfflineError              3   nobody answered: keep what runs, try later
│   └── WithheldError             somebody answered and has not this file: there may be another way
├── UntrustedError            4   an answer came and must not be believed: keep what runs, alert
│   └── CorruptError              stored bytes are not the bytes that were named
└── RefusedError              5   a gate said no, with its reasons
    ├── AdmissionError            a release failed this device's own golden check
    └── QueryRefusedError         the search service will not compare this query

``str(error)`` is fit to show a person. A foreign exception never crosses our border: the module
that meets it raises one of these ``from`` it. A call out of order is RuntimeError, the
caller's bug.
"""


class KinspaceError(Exception):
    """Base of everything kinspace raises on purpose."""

    exit_code = 1


class UsageError(KinspaceError):
    exit_code = 2


class ConfigError(UsageError):
    pass


class DataError(UsageError):
    pass


class ImageError(DataError):
    pass


class SpaceError(UsageError):
    pass


class NotFoundError(UsageError):
    pass


class ConflictError(UsageError):
    pass


class MissingExtraError(UsageError):
    """A verb needs packages that this installation left out."""

    def __init__(self, verb: str, extra: str, missing: str) -> None:
        super().__init__(f"{verb} needs {missing}: pip install 'kinspace[{extra}]'")


class OfflineError(KinspaceError):
    exit_code = 3


class WithheldError(OfflineError):
    pass


class UntrustedError(KinspaceError):
    exit_code = 4


class CorruptError(UntrustedError):
    pass


class RefusedError(KinspaceError):
    exit_code = 5


class AdmissionError(RefusedError):
    pass


class QueryRefusedError(RefusedError):
    pass

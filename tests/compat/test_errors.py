"""One tree, one exit code for each decision of the caller."""

import pytest

from compat import errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError, 2),
        (errors.ConfigError, 2),
        (errors.DataError, 2),
        (errors.ImageError, 2),
        (errors.SpaceError, 2),
        (errors.OfflineError, 3),
        (errors.UntrustedError, 4),
        (errors.CorruptError, 4),
        (errors.RefusedError, 5),
        (errors.AdmissionError, 5),
        (errors.QueryRefusedError, 5),
    ],
)
def test_exit_codes(error, code):
    assert issubclass(error, errors.KinspaceError)
    assert error("why").exit_code == code


def test_a_missing_extra_says_what_to_install():
    error = errors.MissingExtraError("kinspace export", "train", "torch")
    assert str(error) == "kinspace export needs torch: pip install 'kinspace[train]'"
    assert error.exit_code == 2

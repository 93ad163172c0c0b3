"""Say how the last update ended, signed: what an app sends to whoever watches a rollout.

Nothing is sent from here. Where reports travel is the app's affair.
"""

from importlib.metadata import version
from pathlib import Path

from compat.errors import UsageError
from compat.update_report import UpdateReport
from edge.attest_key import device_signer
from edge.device import Device
from edge.envelope import public_half, sign_report
from edge.lock import exclusive


def report_update(home: Path) -> bytes:
    """The signed report on the last update in ``home``.

    Raises:
        UsageError: no update has met a release yet (the device was offline, say), another report
            is being made, or the device's key is unusable.
    """
    status = Device(home).status()
    last = status.last_update
    if last is None or not last.met:
        raise UsageError(
            f"the last update of {home} met no release, there is nothing to report: "
            "kinspace device update"
        )
    with exclusive(home / ".attest.lock", "another attestation"):
        signer = device_signer(home)
    report = UpdateReport(
        family=status.config.family,
        channel=status.config.channel,
        met=last.met,
        kinspace_version=version("kinspace"),
        at=last.at,
        device_key=public_half(signer.public_key),
    )
    return sign_report(report, signer)

"""The address of a registry: a folder, ``s3://bucket/prefix?endpoint=URL&region=..&sse=..``, a URL.

A URL, ``https://host/registry``, is a registry that `kinspace serve` serves; the token in
`TOKEN_ENV` lets write to it.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from compat.errors import MissingExtraError, OfflineError, UsageError
from registry.storage.files import FileStore
from registry.storage.http import TOKEN_ENV, HttpStore, check_url
from registry.storage.port import Store

OPTIONS = {"endpoint", "region", "style", "sse"}
STYLES = {"auto", "path", "virtual"}
ENCRYPTIONS = {"AES256", "aws:kms"}


@dataclass(frozen=True)
class S3Address:
    """A bucket and how to reach it; credentials come from boto3's own chain, never from here."""

    bucket: str
    prefix: str
    endpoint: str | None = None
    region: str | None = None
    style: str = "auto"
    sse: str | None = None


def parse_s3(url: str) -> S3Address:
    """Raises UsageError: no bucket, or an option that is unknown, doubled or of no known value."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    options = dict(pairs)
    if not parts.netloc or "@" in parts.netloc:
        raise UsageError("a bucket's address is s3://bucket/prefix, without credentials")
    if (unknown := options.keys() - OPTIONS) or len(pairs) != len(options):
        raise UsageError(f"options {sorted(unknown)} unknown or doubled; known: {sorted(OPTIONS)}")
    if options.get("style", "auto") not in STYLES:
        raise UsageError(f"style={options['style']}: choose one of {sorted(STYLES)}")
    if options.get("sse", "AES256") not in ENCRYPTIONS:
        raise UsageError(f"sse={options['sse']}: choose one of {sorted(ENCRYPTIONS)}")
    return S3Address(parts.netloc, parts.path.strip("/"), **options)


def open_store(address: str) -> Store:
    """The store at ``address``; no network is used before the first call of the store.

    Raises:
        UsageError: the address is of no known form. Remedy: as the message says.
    """
    if address.startswith("s3://"):
        return _open_s3(parse_s3(address))
    if address.startswith(("http://", "https://")):
        token = os.environ.get(TOKEN_ENV)
        check_url(address, token)
        return HttpStore(address, token)
    if "://" in address:
        raise UsageError(
            f"{address}: a registry is a folder, s3://bucket/prefix or https://host/registry"
        )
    return FileStore(Path(address))


def _open_s3(at: S3Address) -> Store:
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        from registry.storage.s3 import S3Store
    except ImportError as error:
        raise MissingExtraError("a registry in a bucket", "server", "boto3") from error
    config = Config(
        s3={"addressing_style": at.style},
        connect_timeout=10,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 3},
    )
    try:
        client = boto3.client("s3", endpoint_url=at.endpoint, region_name=at.region, config=config)
    except ValueError as error:
        raise UsageError(f"endpoint {at.endpoint} is no URL: {error}") from error
    except BotoCoreError as error:
        raise OfflineError(f"cannot reach bucket {at.bucket}: {error}") from error
    return S3Store(client, at.bucket, at.prefix, sse=at.sse)

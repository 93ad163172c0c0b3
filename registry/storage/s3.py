"""Storage in an S3 bucket: conditional writes, checksums, multipart for large bodies."""

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, FlexibleChecksumError

from compat.errors import CorruptError, OfflineError, UsageError
from registry.storage.port import (
    Stat,
    Stored,
    check_name,
    check_range,
    conflict,
    not_found,
    too_long,
)

PART_BYTES = 8 * 2**20  # S3 takes parts of 5 MiB or more
MISSING = {"404", "NoSuchKey", "NotFound"}
SPOILT = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch"}
LOST = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}


class S3Store:
    """Objects under ``prefix`` of one bucket; the version is the ETag. ``client`` is boto3's."""

    def __init__(
        self, client: Any, bucket: str, prefix: str = "", *, sse: str | None = None
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._sealed = {"ServerSideEncryption": sse} if sse else {}
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def __str__(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def get(self, name: str, *, max_bytes: int) -> Stored:
        with self._border(name):
            answer = self._client.get_object(**self._at(name), ChecksumMode="ENABLED")
            with closing(answer["Body"]) as body:  # its own ``with`` would skip the checksum
                if answer["ContentLength"] > max_bytes:
                    raise too_long(name, max_bytes)
                blob = body.read()
        if len(blob) != answer["ContentLength"]:
            raise CorruptError(f"{name} came cut at {len(blob)} bytes: fetch it again")
        return Stored(blob, answer["ETag"])

    def get_range(self, name: str, start: int, *, n_bytes: int) -> bytes:
        check_range(start, n_bytes)
        try:
            with self._border(name):
                wanted = f"bytes={start}-{start + n_bytes - 1}"
                answer = self._client.get_object(**self._at(name), Range=wanted)
                with closing(answer["Body"]) as body:
                    return bytes(body.read(n_bytes))
        except UsageError as error:
            if _code(error.__cause__) in {"416", "InvalidRange"}:
                return b""
            raise

    def size(self, name: str) -> int | None:
        head = self._head(name)
        return head["ContentLength"] if head else None

    def stat(self, name: str) -> Stat | None:
        head = self._head(name)
        return Stat(head["ContentLength"], head["ETag"]) if head else None

    def put_new(self, name: str, blob: bytes) -> str:
        there = self._same(name, blob)  # asked first: what is there already is not sent again
        if there is not None:
            return there
        with self._border(name):
            try:
                return self._put(name, blob, IfNoneMatch="*")
            except ClientError as error:
                if _code(error) not in LOST:
                    raise
        there = self._same(name, blob)
        if there is None:
            raise conflict(name)
        return there

    def replace(self, name: str, blob: bytes, *, expected: str) -> str:
        with self._border(name):
            try:
                return self._put(name, blob, IfMatch=expected)
            except ClientError as error:
                if _code(error) in LOST | MISSING:
                    raise conflict(name) from error
                raise

    def list(self, prefix: str) -> tuple[str, ...]:
        with self._border(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return tuple(sorted(key[len(self._prefix) :] for key in keys))

    def delete(self, name: str) -> None:
        with self._border(name):
            self._client.delete_object(**self._at(name))

    def sweep(self, before: datetime) -> tuple[str, ...]:
        """Uploads in parts whose publisher was killed: their parts are paid for, and never seen."""
        swept = []
        with self._border(self._prefix):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            )
            for upload in (each for page in pages for each in page.get("Uploads", ())):
                if upload["Initiated"] < before:
                    at = {"Bucket": self._bucket, "Key": upload["Key"]}
                    self._client.abort_multipart_upload(**at, UploadId=upload["UploadId"])
                    swept.append(upload["Key"][len(self._prefix) :])
        return tuple(sorted(swept))

    def _at(self, name: str) -> dict[str, str]:
        check_name(name)
        return {"Bucket": self._bucket, "Key": self._prefix + name}

    def _head(self, name: str) -> dict[str, Any] | None:
        with self._border(name):
            try:
                head: dict[str, Any] = self._client.head_object(
                    **self._at(name), ChecksumMode="ENABLED"
                )
            except ClientError as error:
                if _code(error) in MISSING:
                    return None
                raise
        return head

    def _same(self, name: str, blob: bytes) -> str | None:
        """The version of ``name`` if it holds ``blob``, None if nothing; else ConflictError.

        The bucket's own checksum is believed when it agrees. Another one proves nothing, for it
        depends on the parts in which the bytes came: then they are read.
        """
        head = self._head(name)
        if head is None:
            return None
        if head["ContentLength"] != len(blob):
            raise conflict(name)
        if head.get("ChecksumSHA256") == checksum_of(blob):
            return str(head["ETag"])
        stored = self.get(name, max_bytes=len(blob))
        if stored.blob != blob:
            raise conflict(name)
        return stored.version

    def _put(self, name: str, blob: bytes, **condition: str) -> str:
        if len(blob) > PART_BYTES:
            return self._put_parts(name, blob, condition)
        answer = self._client.put_object(
            **self._at(name), Body=blob, ChecksumAlgorithm="SHA256", **self._sealed, **condition
        )
        return str(answer["ETag"])

    def _put_parts(self, name: str, blob: bytes, condition: dict[str, str]) -> str:
        """Multipart; the condition is checked at the end, and a failed upload leaves no parts."""
        at = self._at(name)
        opened = self._client.create_multipart_upload(
            **at, ChecksumAlgorithm="SHA256", **self._sealed
        )
        upload = {**at, "UploadId": opened["UploadId"]}
        try:
            parts = []
            for number, body in enumerate(_parts(blob), 1):
                sent = self._client.upload_part(
                    **upload, PartNumber=number, Body=body, ChecksumAlgorithm="SHA256"
                )
                part = {key: sent[key] for key in ("ETag", "ChecksumSHA256") if key in sent}
                parts.append({**part, "PartNumber": number})
            answer = self._client.complete_multipart_upload(
                **upload, MultipartUpload={"Parts": parts}, **condition
            )
        except BaseException:
            self._client.abort_multipart_upload(**upload)
            raise
        return str(answer["ETag"])

    @contextmanager
    def _border(self, name: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            if _code(error) in MISSING:
                raise not_found(name) from error
            if _code(error) in SPOILT:
                raise CorruptError(f"{name} was damaged on its way: send it again") from error
            if error.response["ResponseMetadata"].get("HTTPStatusCode", 0) >= 500:
                raise OfflineError(f"bucket {self._bucket} is failing: {error}") from error
            raise UsageError(f"bucket {self._bucket} refuses {name}: {error}") from error
        except FlexibleChecksumError as error:
            raise CorruptError(f"{name} is damaged in bucket {self._bucket}: {error}") from error
        except BotoCoreError as error:
            raise OfflineError(f"no answer from bucket {self._bucket}: {error}") from error


def checksum_of(blob: bytes) -> str:
    """What S3 calls the SHA-256 of ``blob``: of a large one, that of its parts' digests."""
    digests = [hashlib.sha256(part).digest() for part in _parts(blob)]
    if len(digests) == 1:
        return b64encode(digests[0]).decode()
    return f"{b64encode(hashlib.sha256(b''.join(digests)).digest()).decode()}-{len(digests)}"


def _parts(blob: bytes) -> list[bytes]:
    return [blob[start : start + PART_BYTES] for start in range(0, max(len(blob), 1), PART_BYTES)]


def _code(error: BaseException | None) -> str:
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else ""

"""Faults of a store: which pass by themselves, and what a person can do about the others.

pyarrow raises `OSError` without an errno for whatever an SDK said, with its words in the message
("AWS Error SLOW_DOWN during PutObject operation ..."), `OSError` with an errno for local files,
and `ArrowInvalid` for an address that it cannot parse.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass

from raysubset.errors import DataError, RaySubsetError, RunFolderError

FULL = (errno.ENOSPC, errno.EDQUOT)
_PASSING = (errno.EINTR, errno.EAGAIN, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED)
_MISSING = re.compile(
    r"NO_SUCH_BUCKET|NoSuchBucket|Bucket '[^']*' not found|ContainerNotFound|NOT_FOUND|"
    r"specified (bucket|container) does not exist|(?<!\d)404(?!\d)"
)
_DENIED = re.compile(
    r"ACCESS_DENIED|AccessDenied|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|INVALID_SIGNATURE|"
    r"INVALID_CLIENT_TOKEN|UNRECOGNIZED_CLIENT|MISSING_AUTHENTICATION|NOT_SIGNED_UP|ExpiredToken|"
    r"EXPIRED_TOKEN|INVALID_TOKEN|PERMISSION_DENIED|UNAUTHENTICATED|Authori[sz]ation\w*|"
    r"Authentication\w*|(?<!\d)40[13](?!\d)|Forbidden"
)
_OTHER = re.compile(r"HTTP status (3\d\d|4(?!08|29)\d\d)|INVALID_ARGUMENT|UNIMPLEMENTED")


def is_transient(error: Exception) -> bool:
    """Return whether the same call may succeed a moment later."""
    if not isinstance(error, OSError):  # ArrowInvalid, NotImplementedError: our input, not its day
        return False
    if error.errno is not None:
        return error.errno in _PASSING
    return not any(kind.search(str(error)) for kind in (_MISSING, _DENIED, _OTHER))


def is_missing(error: OSError) -> bool:
    """Return whether what was asked for is not there (deleted between two requests, it may be)."""
    return isinstance(error, FileNotFoundError) or bool(_MISSING.search(str(error)))


def cause_of(error: Exception) -> str:
    """Return an error's first line, short enough for a sentence."""
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = (told.strip().splitlines() or [type(error).__name__])[0]
    line = re.sub(r"\s*\(Request ID: [^)]*\)", "", line).rstrip(". ")
    return line if len(line) <= 300 else line[:297] + "..."


def remedy_for(error: Exception) -> str:
    """Return what a person can do about an error that ends a run."""
    if is_transient(error):
        return (
            "finished rounds are kept; when it answers again, run the same command with --resume."
        )
    told = str(error)
    if isinstance(error, OSError) and error.errno in FULL:
        return "make room, then run the same command with --resume."
    if isinstance(error, PermissionError) or _DENIED.search(told):
        return (
            "check the credentials in the environment of this process and that they may list, "
            "read, write and delete there."
        )
    if _MISSING.search(told):
        return "make the bucket or container first, or choose another --run-dir."
    return "check the address, or choose another --run-dir."


def data_remedy(uri: str, error: Exception) -> str:
    """Return what a person can do about data that cannot be had."""
    scheme = uri.partition(":")[0]
    told, region = str(error), _REGION if scheme == "s3" else ""
    if isinstance(error, OSError) and error.errno in FULL:
        return "make room there, or set TMPDIR elsewhere."
    if isinstance(error, PermissionError) or _DENIED.search(told) or "OAuth2 access" in told:
        return (
            f"give this process credentials that may list and read there: {_KEYS[scheme]}"
            f"{_OWN_SERVER if scheme == 's3' else ''}."
        )
    if _MISSING.search(told):
        return f"check the name of the bucket or container{_OWN_SERVER if region else ''}."
    if is_transient(error):
        return f"check the network and the name{region}; then run the same command again."
    return f"check the address{region}."


_AWS = (
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) in its environment, or a role of "
    "its machine"
)
_GOOGLE = (
    "GOOGLE_APPLICATION_CREDENTIALS in its environment, or a role of its machine; a bucket that is "
    "open to everybody is gs://anonymous@BUCKET/..."
)
_AZURE = (
    "AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET in its environment, or an identity "
    "of its machine"
)
_KEYS = {"s3": _AWS, "gs": _GOOGLE, "gcs": _GOOGLE, "abfs": _AZURE, "abfss": _AZURE}
_OWN_SERVER = "; for a server of your own add ?endpoint_override=HOST:PORT&scheme=http"
_REGION = (
    ", the region of the bucket (?region=eu-central-1), and for a server of your own "
    "?endpoint_override=HOST:PORT&scheme=http"
)


@dataclass(frozen=True)
class Purpose:
    """What a folder behind a URI is for: how its errors are told.

    Attributes:
        error: what is raised.
        remedy: (URI, cause) -> what a person can do.
        whole_bucket: whether a bucket without a folder in it will do.
    """

    error: type[RaySubsetError]
    remedy: Callable[[str, Exception], str]
    whole_bucket: bool


RUN_FOLDER = Purpose(RunFolderError, lambda _, error: remedy_for(error), whole_bucket=False)
DATA = Purpose(DataError, data_remedy, whole_bucket=True)

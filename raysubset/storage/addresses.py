"""Addresses of run folders: which are URIs, and which are refused before any work."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from raysubset.errors import RunFolderError

SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "file")
KNOWN = "s3://bucket/x, gs://bucket/x, abfs://container@account.dfs.core.windows.net/x, file:///x"
_SECRET = re.compile(r"pass|pwd|token|secret|key|sas|sig", re.IGNORECASE)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_USERINFO = re.compile(r"//[^?#]*@|//[^/?#]*:")  # a secret key may hold a slash


def is_uri(place: str | Path) -> bool:
    """Return whether a --run-dir is an address rather than a path."""
    return isinstance(place, str) and bool(_URI.match(place))


def without_credentials(uri: str) -> str:
    """Return a URI that may be shown: nothing of what could be a secret is left in it."""
    parts = urlsplit(uri)
    plain = [f"{k}={'***' if _is_secret(k, v) else v}" for k, v in parse_qsl(parts.query)]
    shown = urlunsplit((parts.scheme, parts.netloc, parts.path, "&".join(plain), ""))
    return shown if not _credentials(uri) else _USERINFO.sub("//***@", shown)


def child_of(uri: str, name: str) -> str:
    """Return the URI of a folder below another; options behind a question mark stay behind."""
    parts = urlsplit(uri)
    path = f"{parts.path.rstrip('/')}/{quote(name, safe='/=@:+,')}"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def refuse_bad_uri(uri: str) -> None:
    """Refuse what cannot be a run folder.

    Raises:
        RunFolderError: credentials in it (they are not repeated), a scheme that nobody serves, no
            bucket, or no folder in the bucket.
    """
    shown = without_credentials(uri)
    if _credentials(uri):
        raise RunFolderError(
            f"{shown} must hold no credentials, because run folders are written down and shown; "
            "put them in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "GOOGLE_APPLICATION_CREDENTIALS, AZURE_CLIENT_ID ...) or give the machine a role."
        )
    parts = urlsplit(uri)
    if parts.scheme not in SCHEMES:
        raise RunFolderError(
            f"{shown} is on no storage that is known here; give a path, or one of {KNOWN}."
        )
    if parts.fragment:
        raise RunFolderError(f"{shown} must not have a #fragment; write %23 for a # in a name.")
    if parts.scheme != "file" and not parts.netloc:
        raise RunFolderError(f"{shown} names no bucket; write it like one of {KNOWN}.")
    if not parts.path.strip("/"):
        raise RunFolderError(
            f"{shown} is a whole bucket; name a folder in it: {parts.scheme}://{parts.netloc}/run."
        )


def _credentials(uri: str) -> bool:
    """Return whether a URI holds what could be a secret; a container before an @ is none."""
    parts = urlsplit(uri)
    user, at, _ = parts.netloc.rpartition("@")
    plain = {"gs": ("anonymous",), "gcs": ("anonymous",)}.get(parts.scheme, ())
    azure = parts.scheme in ("abfs", "abfss")
    named = at and (":" in user or not (azure or user in plain))
    named = named or (":" in parts.netloc and not azure)  # no bucket has a port
    return bool(named) or any(_is_secret(k, v) for k, v in parse_qsl(parts.query, True))


def _is_secret(name: str, value: str) -> bool:
    return bool(_SECRET.search(name)) or "@" in value

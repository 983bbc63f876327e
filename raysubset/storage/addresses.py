"""Addresses of run folders and data: which are URIs, and which are refused before any work."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from raysubset.redaction import NAMES
from raysubset.storage.faults import RUN_FOLDER, Purpose

SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "file")
KNOWN = "s3://bucket/x, gs://bucket/x, abfs://container@account.dfs.core.windows.net/x, file:///x"
_SECRET = re.compile(NAMES, re.IGNORECASE)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_NOT_PLAIN = re.compile(r"[^\x21-\x7e]|%(?![0-9A-Fa-f]{2})")
_USERINFO = re.compile(r"//[^?#]*@|//[^/?#]*:")  # a secret key may hold a slash


def is_uri(place: str | Path) -> bool:
    """Return whether a place is an address rather than a path."""
    return isinstance(place, str) and bool(_URI.match(place))


def without_credentials(uri: str) -> str:
    """Return a URI that may be shown: nothing of what could be a secret is left in it."""
    if _torn(uri):
        return f"{uri.partition(':')[0]}://***"
    parts = urlsplit(uri)
    plain = [f"{k}={'***' if _is_secret(k, v) else v}" for k, v in parse_qsl(parts.query)]
    shown = urlunsplit((parts.scheme, parts.netloc, parts.path, "&".join(plain), ""))
    return shown if not _credentials(uri) else _USERINFO.sub("//***@", shown)


def child_of(uri: str, name: str) -> str:
    """Return the URI of a folder below another; options behind a question mark stay behind."""
    parts = urlsplit(uri)
    path = f"{parts.path.rstrip('/')}/{quote(name, safe='/=@:+,')}"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def refuse_bad_uri(uri: str, purpose: Purpose = RUN_FOLDER) -> None:
    """Refuse what cannot be a run folder, or data.

    Raises:
        RunFolderError, DataError: by the purpose; credentials in it (they are not repeated), a
            scheme that nobody serves, no bucket, or no folder in the bucket where one is needed.
    """
    shown, Bad = without_credentials(uri), purpose.error
    if _torn(uri):
        raise Bad(f"{shown} is no address ([ or ] in it); write it like one of {KNOWN}.")
    if _credentials(uri):
        raise Bad(
            f"{shown} must hold no credentials, because addresses are written down and shown; "
            "put them in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "GOOGLE_APPLICATION_CREDENTIALS, AZURE_CLIENT_ID ...) or give the machine a role."
        )
    parts = urlsplit(uri)
    if parts.scheme in SCHEMES and not uri.startswith(parts.scheme):
        raise Bad(f"{shown} must begin with {parts.scheme}: in small letters.")
    if parts.scheme not in SCHEMES:
        raise Bad(f"{shown} is on no storage that is known here; give a path, or one of {KNOWN}.")
    if parts.fragment:
        raise Bad(f"{shown} must not have a #fragment; write %23 for a # in a name.")
    if parts.scheme == "file" and parts.netloc:
        raise Bad(
            f"{shown} names a host, {parts.netloc}; an absolute path follows three slashes: "
            f"file:///{parts.netloc}{parts.path} if that is meant."
        )
    if odd := _NOT_PLAIN.search(parts.path):
        escaped = quote(parts.path, safe="/%=@:+,")
        escaped = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", escaped)
        raise Bad(
            f"{shown} has {odd.group()!r} in it, which an address writes as "
            f"{quote(odd.group())}: {urlunsplit(parts._replace(path=escaped))}"
        )
    if parts.scheme != "file" and not parts.netloc:
        raise Bad(f"{shown} names no bucket; write it like one of {KNOWN}.")
    whole = purpose.whole_bucket and parts.scheme != "file"
    if not parts.path.strip("/") and not whole:
        raise Bad(
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


def _torn(uri: str) -> bool:
    """Return whether a URI cannot be taken apart: a bracket opens what is no IPv6 address."""
    try:
        urlsplit(uri)
    except ValueError:
        return True
    return False


def _is_secret(name: str, value: str) -> bool:
    return bool(_SECRET.search(name)) or "@" in value

"""What obstore's exceptions mean. Its texts hold URLs, answers and signatures, so nothing of them is passed on but two codes."""

from __future__ import annotations

import re
from typing import Literal

from anchovies.sdk.datastore import AlreadyExists, AnchovyError, ConfigError, FatalError, NotFound, StoreUnavailable

Verb = Literal["create", "read", "write", "delete", "list"]
_STATUS = re.compile(r"status code: (\d{3})|\(code: (\d{3})\)")
_CODE = re.compile(r"<Code>\s*([A-Za-z0-9]{1,64})\s*</Code>")
_NO_BUCKET = frozenset(("NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled", "AllAccessDisabled"))
#: a refusal of what arrived, not of what was sent: the wire broke off, or changed it
_ON_THE_WAY = frozenset(("", "RequestTimeout", "IncompleteBody", "BadDigest", "Md5Mismatch", "XAmzContentSHA256Mismatch"))
#: answers that say nothing about whether the same request will succeed next time
_PASSING = frozenset((408, 409, 425, 429))
#: errors by the name of their class without "Error"; obstore says "not found" and "not supported" by classes of Python's own
MEANING: dict[str, type[AnchovyError]] = {
    "AlreadyExists": AlreadyExists,
    "Precondition": AlreadyExists,
    "NotFound": NotFound,
    "FileNotFound": NotFound,
    "PermissionDenied": ConfigError,
    "Unauthenticated": ConfigError,
    "UnknownConfigurationKey": ConfigError,
    "InvalidPath": ConfigError,
    "NotSupported": FatalError,
    "NotImplemented": FatalError,
    "Generic": StoreUnavailable,
    "Join": StoreUnavailable,
    "NotModified": StoreUnavailable,
    "Base": StoreUnavailable,
}
_NEEDS = {
    "create": "write (put) objects below",
    "write": "write (put) objects below",
    "read": "read (get) objects below",
    "delete": "delete objects below",
    "list": "list objects below",
}


class Translator:
    """Errors of one bucket. `url`: how a person names it; `settings`: the sentence that says how to log in."""

    def __init__(self, url: str, settings: str) -> None:
        self.url, self.settings = url, settings

    def __call__(self, error: BaseException, verb: Verb, key: str) -> AnchovyError:
        """What `error` means for the caller. What is not known for certain is StoreUnavailable: it may have taken effect."""
        text = str(error)
        status, code = _found(_STATUS, text), _found(_CODE, text)
        said = " ".join(x for x in (status, code) if x)
        kind = _kind(error, int(status or 0), code)
        if code in _NO_BUCKET or (kind is NotFound and verb == "list"):
            return ConfigError(f"{self.url}: there is no such bucket ({said})", hint="create it, or mend --datastore", key=key)
        if kind is NotFound and verb in ("read", "delete"):
            return NotFound(f"there is no {key} in {self.url}", key=key)
        if kind is AlreadyExists and verb == "create" and (status != "409" or code == "BlobAlreadyExists"):
            return AlreadyExists(f"{key} exists in {self.url}", key=key)
        what = f"{self.url}: could not {verb} {key}: {said or _plain(error, text)}"
        if kind is ConfigError:
            return ConfigError(what, hint=f"let this login {_NEEDS[verb]} {self.url}; {self.settings}", key=key)
        if kind is FatalError:
            return FatalError(what, hint=f"look at the settings of the bucket; {self.settings}", key=key)
        return StoreUnavailable(what, hint="it may pass by itself; else look at the network and at ENDPOINT", key=key)


def _kind(error: BaseException, status: int, code: str) -> type[AnchovyError]:
    """By the class; where that is the general one, by the server's answer. A bare 400 did not come from the store behind it."""
    names = (c.__name__.removesuffix("Error") for c in type(error).__mro__)
    kind = next((MEANING[n] for n in names if n in MEANING), StoreUnavailable)
    if kind is not StoreUnavailable:
        return kind
    if status in (401, 403):
        return ConfigError
    if status == 404:
        return NotFound
    if status == 400 and code in _ON_THE_WAY:
        return StoreUnavailable
    return FatalError if 300 <= status < 500 and status not in _PASSING else StoreUnavailable


def _found(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return next((g for g in found.groups() if g), "") if found else ""


def _plain(error: BaseException, text: str) -> str:
    """A failure without an answer, in our words."""
    for mark, words in {
        "token request": "no credentials were found, and none could be fetched",
        "credentials": "no credentials were found, and none could be fetched",
        "timed out": "no answer in time",
        "TimedOut": "no answer in time",
        "dns error": "the server's name is unknown",
        "Connection refused": "connection refused",
        "certificate": "the server's certificate is not trusted",
        "error sending request": "the connection failed",
        "error decoding response": "the answer broke off",
    }.items():
        if mark in text:
            return words
    return type(error).__name__

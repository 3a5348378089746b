"""What each exception of obstore means to us, and that nothing of its text is passed on."""

from __future__ import annotations

import inspect

import pytest
from obstore import exceptions

from anchovies.core.errors import AlreadyExists, AnchovyError, ConfigError, FatalError, NotFound, StoreUnavailable
from anchovies.plugins._buckets.errors import MEANING, Translator, Verb

CLASSES = {n: c for n, c in vars(exceptions).items() if inspect.isclass(c) and issubclass(c, BaseException)}
VERBS: tuple[Verb, ...] = ("create", "read", "write", "delete", "list")
SIGNED = "https://host/x?X-Amz-Signature=hunter2"
meaning = Translator("s3://bucket/x", "a login comes from here")
#: (create, read, write, delete, list)
WANTED: dict[str, tuple[type[AnchovyError], ...]] = {
    "AlreadyExistsError": (AlreadyExists, *(StoreUnavailable,) * 4),
    "PreconditionError": (AlreadyExists, *(StoreUnavailable,) * 4),
    "NotFoundError": (StoreUnavailable, NotFound, StoreUnavailable, NotFound, ConfigError),
    "PermissionDeniedError": (ConfigError,) * 5,
    "UnauthenticatedError": (ConfigError,) * 5,
    "UnknownConfigurationKeyError": (ConfigError,) * 5,
    "InvalidPathError": (ConfigError,) * 5,
    "NotSupportedError": (FatalError,) * 5,
    "NotImplementedError": (FatalError,) * 5,
    "GenericError": (StoreUnavailable,) * 5,
    "JoinError": (StoreUnavailable,) * 5,
    "NotModifiedError": (StoreUnavailable,) * 5,
    "BaseError": (StoreUnavailable,) * 5,
}


def test_every_class_of_obstore_is_in_the_table() -> None:
    assert set(CLASSES) <= set(WANTED) and {n.removesuffix("Error") for n in CLASSES} <= set(MEANING)
    assert len(CLASSES) >= 10


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_what_each_class_means(name: str) -> None:
    for verb, wanted in zip(VERBS, WANTED[name], strict=True):
        found = meaning(CLASSES[name](f"it failed at {SIGNED}"), verb, "u/key")
        assert type(found) is wanted, (name, verb)
        assert "hunter2" not in f"{found} {found.hint}" and "s3://bucket/x" in str(found)


@pytest.mark.parametrize(
    ("text", "verb", "wanted"),
    [
        ("status code: 403 Forbidden <Code>AccessDenied</Code>", "create", ConfigError),
        ("status code: 401", "read", ConfigError),
        ("status code: 404 <Code>NoSuchBucket</Code>", "read", ConfigError),
        ("status code: 404 <Code>ContainerNotFound</Code>", "create", ConfigError),
        ("status code: 404", "delete", NotFound),
        ("status code: 400 <Code>InvalidArgument</Code>", "create", FatalError),
        ("status code: 400 <Code>RequestTimeout</Code>", "create", StoreUnavailable),
        ("status code: 400 Bad Request", "create", StoreUnavailable),
        ("status code: 409 <Code>OperationAborted</Code>", "create", StoreUnavailable),
        ("status code: 429", "read", StoreUnavailable),
        ("status code: 503 <Code>SlowDown</Code>", "create", StoreUnavailable),
        ("error sending request: connection closed", "create", StoreUnavailable),
    ],
)
def test_a_general_error_is_what_the_server_answered(text: str, verb: Verb, wanted: type[AnchovyError]) -> None:
    found = meaning(exceptions.GenericError(f"{text} at {SIGNED}"), verb, "u/key")
    assert type(found) is wanted and "hunter2" not in str(found)


def test_a_conflict_of_s3_is_no_answer_whether_it_exists() -> None:
    conflict = "status code: 409 <Code>ConditionalRequestConflict</Code>"
    assert type(meaning(exceptions.AlreadyExistsError(conflict), "create", "u/key")) is StoreUnavailable
    there = "status code: 409 <Code>BlobAlreadyExists</Code>"
    assert type(meaning(exceptions.AlreadyExistsError(there), "create", "u/key")) is AlreadyExists


def test_what_is_not_known_may_have_taken_effect() -> None:
    assert type(meaning(RuntimeError(SIGNED), "create", "u/key")) is StoreUnavailable

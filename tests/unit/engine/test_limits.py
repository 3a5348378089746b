"""What a stop does to the errors that come up around it."""

from __future__ import annotations

from anchovies.engine.limits import Nudge, StopSignal, stopped_by


def test_an_error_that_was_made_of_a_nudge_means_the_stop() -> None:
    stop = StopSignal()
    wrapped, other = RuntimeError("wrapped"), RuntimeError("other")
    wrapped.__cause__ = Nudge()
    assert stop.meaning(wrapped) is wrapped
    stop.set(stopped_by(15, "SIGTERM"))
    assert stop.meaning(wrapped) is stop.reason
    assert stop.meaning(other) is other
    closing = RuntimeError("generator ignored GeneratorExit")
    closing.__context__ = stop.reason
    assert stop.meaning(closing) is stop.reason
    wrapped.__cause__ = None
    wrapped.__context__, other.__context__ = other, wrapped  # a circle, as odd libraries make them
    assert stop.meaning(wrapped) is wrapped

"""Operators that misbehave: each class in its own way. `test_misbehaviour.py` runs them; nothing here is imported by a test.

Three units of ten rows are committed before `sit()`; `Good` goes on from there.
"""

import asyncio
import atexit
import collections
import contextlib
import ctypes
import faulthandler
import fcntl
import gc
import itertools
import multiprocessing
import os
import queue
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from anchovies.sdk import ConnectionMemo, Downloader, context, on_ack, on_task, sink, source

FOREVER = 1000


def reached():
    """So that the test knows that it saw what it wanted to see."""
    open("reached", "w").close()


def spin():
    while True:
        pass


class Good(Downloader):
    """Goes on from wherever the bad one came, up to six units."""

    def sit(self):
        return

    @source("t")
    def t(self):
        done = context().checkpoint("n")
        for n in range(done.get(0), 6):
            yield pa.table({"n": [n] * 10, "i": list(range(10))})  # Arrow does not wait for more
            done.set(n + 1)
            if n == 2:
                reached()
                self.sit()

    @on_ack
    def acked(self, tokens):
        return


Base = Good  # what follows differs from it in `sit` alone, or in one more method


# ---- loops


class BusyLoop(Base):
    def sit(self):
        spin()


class CatchesException(Base):
    def sit(self):
        while True:
            try:
                spin()
            except Exception:
                continue


class CatchesEverything(Base):
    def sit(self):
        while True:
            try:
                while True:
                    time.sleep(0.01)
            except BaseException:
                continue


class CatchesEverythingAndYields(Base):
    @source("t")
    def t(self):
        yield from super().t()
        while True:
            try:
                while True:
                    time.sleep(0.01)
                    yield {"n": 99}
            except BaseException:
                continue


class YieldsForEver(Base):
    @source("t")
    def t(self):
        yield from itertools.islice(super().t(), 3)
        reached()
        for n in itertools.count():
            yield {"n": n}


class YieldsNothingForEver(Base):
    @source("t")
    def t(self):
        yield from itertools.islice(super().t(), 3)
        reached()
        while True:
            yield []


class LoopsInFinally(Base):
    def sit(self):
        try:
            spin()
        finally:
            spin()


class IgnoresClose(Base):
    @source("t")
    def t(self):
        yield from itertools.islice(super().t(), 3)
        reached()
        while True:
            try:
                yield {"n": 99}
            except GeneratorExit:
                spin()


class SinkSpins(Base):
    @sink("t", streaming=True)
    def take(self, stream):
        for row in stream:
            if row["n"] == 2:
                reached()
                spin()


class SinkCatchesEverything(Base):
    @sink("t")
    def take(self, stream):
        while True:
            try:
                reached()
                list(stream)
                time.sleep(FOREVER)
            except BaseException:
                continue


class SinkNeverReads(Base):
    @sink("t")
    def take(self, stream):
        reached()
        time.sleep(FOREVER)


class HookSpins(Base):
    @on_task("tbl")
    def before(self):
        reached()
        spin()


class StartupSpins(Base):
    @on_task("startup")
    def before(self):
        reached()
        spin()


class ShutdownSpins(Base):
    @on_task("shutdown")
    def after(self):
        spin()


class ErrorHookSpins(Base):
    def sit(self):
        raise RuntimeError("something else")

    @on_task("error")
    def failed(self, error):
        spin()


class AckSpins(Base):
    def sit(self):
        context().ack("x")

    @on_ack
    def acked(self, tokens):
        reached()
        spin()


class DiscoverySpins(Base):
    def discover_tbls(self):
        reached()
        spin()


class InitSpins(Base):
    def __init__(self):
        reached()
        spin()


def _opens_never():
    spin()


class OpenSpins(Base):
    other = ConnectionMemo("other", _opens_never)

    def sit(self):
        assert self.other


class _ClosesNever:
    def close(self):
        spin()


class CloseSpins(Base):
    other = ConnectionMemo("other", _ClosesNever)

    def sit(self):
        assert self.other


class Beside(Base):
    """Another table beside it, in another thread."""

    @source("u")
    def u(self):
        yield {"m": 1}
        self.sit_beside()


class SpinsBeside(Beside):
    def sit_beside(self):
        spin()


class BothCatchEverything(Beside):
    def sit(self):
        while True:
            try:
                spin()
            except BaseException:
                continue

    sit_beside = sit


class FailsBesideOneThatSits(Beside):
    def sit(self):
        time.sleep(FOREVER)

    def sit_beside(self):
        raise RuntimeError("the other one")


# ---- waits


class Sleeps(Base):
    def sit(self):
        time.sleep(FOREVER)


class BlockedSocket(Base):
    def sit(self):
        a, _b = socket.socketpair()
        a.recv(1)


class BlockedPipe(Base):
    def sit(self):
        read, _write = os.pipe()
        os.read(read, 1)


class BlockedFifo(Base):
    def sit(self):
        os.mkfifo("fifo")
        open("fifo").close()


class Deadlock(Base):
    def sit(self):
        lock = threading.Lock()
        with lock, lock:
            pass


class EmptyQueue(Base):
    def sit(self):
        queue.Queue().get()


class FileLock(Base):
    def sit(self):
        with open("lock", "w") as a, open("lock", "w") as b:
            fcntl.flock(a, fcntl.LOCK_EX)
            fcntl.flock(b, fcntl.LOCK_EX)


class Asyncio(Base):
    def sit(self):
        asyncio.run(asyncio.sleep(FOREVER))


class WaitsForInput(Base):
    def sit(self):
        input()


class FillsStdout(Base):
    def sit(self):
        while True:
            os.write(1, b"x")


class JoinsThread(Base):
    def sit(self):
        thread = threading.Thread(target=time.sleep, args=(FOREVER,))
        thread.start()
        thread.join()


class PoolNeverEnds(Base):
    def sit(self):
        with ThreadPoolExecutor(2) as pool:
            pool.submit(time.sleep, FOREVER)


# ---- C code that keeps the interpreter's lock


class Regex(Base):
    def sit(self):
        re.match(r"(a+)+b", "a" * 60)


class Power(Base):
    def sit(self):
        pow(7, 10**9)


class Consumes(Base):
    def sit(self):
        collections.deque(itertools.repeat(0), maxlen=0)


class Sums(Base):
    def sit(self):
        sorted(itertools.chain.from_iterable(itertools.repeat(())))


class KeepsTheLock(Base):
    def sit(self):
        ctypes.PyDLL(None).sleep(FOREVER)


# ---- processes


class ChildIgnoresTerm(Base):
    def sit(self):
        subprocess.run(["sh", "-c", "trap '' TERM INT HUP; while :; do sleep 1; done"])


class GrandchildHoldsPipe(Base):
    def sit(self):
        subprocess.run("sleep 30 & exec sleep 30", shell=True, stdout=subprocess.PIPE)


class ForksAndWaits(Base):
    def sit(self):
        if (pid := os.fork()) == 0:
            time.sleep(FOREVER)
        os.waitpid(pid, 0)


class ForksAndGoesOn(Base):
    def sit(self):
        if os.fork():
            os.wait()


class WrapsEverything(Base):
    def sit(self):
        try:
            spin()
        except BaseException as e:
            raise RuntimeError("something went wrong") from e


class ClosesOutput(Base):
    def sit(self):
        os.close(1)
        os.close(2)


class ForksAndLeaves(Base):
    def sit(self):
        if os.fork() == 0:
            with contextlib.suppress(BaseException):
                time.sleep(2)
            os._exit(0)


class ForkedPool(Base):
    def sit(self):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(FOREVER,))
        child.start()
        child.join()


class LeavesItsGroup(Base):
    def sit(self):
        os.setpgid(0, os.getpgid(os.getppid()))
        ctypes.PyDLL(None).sleep(FOREVER)


class StopsItself(Base):
    def sit(self):
        os.kill(os.getpid(), signal.SIGSTOP)


class ClosesEveryFile(Base):
    def sit(self):
        os.closerange(0, 256)
        time.sleep(FOREVER)


# ---- what hangs at the end


class ThreadLives(Base):
    def sit(self):
        threading.Thread(target=time.sleep, args=(FOREVER,)).start()


class ThreadLivesAndSits(ThreadLives):
    def sit(self):
        super().sit()
        spin()


class AtExitHangs(Base):
    def sit(self):
        atexit.register(time.sleep, FOREVER)


class _Undying:
    def __del__(self):
        spin()


class FinalizerHangs(Base):
    def sit(self):
        self.kept = _Undying()
        weakref.finalize(self, spin)


class FinalizerHangsNow(Base):
    def sit(self):
        _Undying()


class CollectorHangs(Base):
    def sit(self):
        gc.callbacks.append(lambda phase, info: spin())
        gc.collect()


# ---- the interpreter bent


class DeafToSignals(Base):
    def sit(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
        time.sleep(FOREVER)


class SwitchesNever(Base):
    def sit(self):
        sys.setswitchinterval(FOREVER)
        spin()


class StopsTheClock(Base):
    def sit(self):
        time.monotonic = time.time = lambda: 0.0
        time.sleep = lambda seconds: None
        spin()


class Hooked(Base):
    def sit(self):
        sys.excepthook = threading.excepthook = sys.unraisablehook = lambda *args: spin()
        gc.disable()
        sys.settrace(None)
        faulthandler.enable()
        spin()


class WithoutFiles(Base):
    def sit(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        spin()


# ---- what ends by itself, badly


class Recursion(Base):
    def sit(self):
        self.sit()


class SystemExits(Base):
    def sit(self):
        sys.exit(0)


class Interrupts(Base):
    def sit(self):
        raise KeyboardInterrupt


class _Special(BaseException):
    pass


class RaisesItsOwn(Base):
    def sit(self):
        raise _Special("not an Exception")


class LeavesGenerator(Base):
    def sit(self):
        raise GeneratorExit


class _Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__


class RaisesUnspeakable(Base):
    def sit(self):
        raise _Unspeakable


class ExitsHard(Base):
    def sit(self):
        os._exit(7)


class Crashes(Base):
    def sit(self):
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ctypes.string_at(0)


class TerminatesItself(Base):
    def sit(self):
        os.kill(os.getpid(), signal.SIGTERM)
        spin()


class DumpsAndExits(Base):
    def sit(self):
        faulthandler.dump_traceback_later(0.2, exit=True, file=tempfile.TemporaryFile("w"))  # noqa: SIM115
        time.sleep(FOREVER)

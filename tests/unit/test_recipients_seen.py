"""Repeats are found exactly, in memory, on disk, and across the border between them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mailer.recipients.seen as module
from mailer.recipients import Seen


def by_a_set(batches: list[list[str]]) -> list[list[int]]:
    seen: set[str] = set()
    result = []
    for batch in batches:
        repeats = []
        for index, key in enumerate(batch):
            if key in seen:
                repeats.append(index)
            seen.add(key)
        result.append(repeats)
    return result


_batches = st.lists(st.lists(st.text("abc'\"\\\u00e9", max_size=3), max_size=8), max_size=30)


@settings(max_examples=200, deadline=None)
@given(_batches, st.integers(1, 12), st.integers(1, 12))
def test_it_says_what_a_plain_set_says(batches: list[list[str]], in_memory: int, afterwards: int) -> None:
    with Seen(in_memory=in_memory, afterwards=afterwards) as seen:
        assert [seen.repeats(batch) for batch in batches] == by_a_set(batches)


def test_the_filter_is_never_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILTER_BITS", 8)  # it takes every address for one that it has seen
    keys = [f"user{n}@example.com" for n in range(5000)]
    with Seen(in_memory=100, afterwards=100) as seen:
        for start in range(0, len(keys), 50):
            assert seen.repeats(keys[start : start + 50]) == []
        assert seen.repeats([keys[0], "new@example.com", keys[4999], keys[2500]]) == [0, 2, 3]


def test_it_finds_each_of_many_on_disk() -> None:
    with Seen(in_memory=1000, afterwards=700) as seen:
        for start in range(0, 20_000, 500):
            assert seen.repeats([f"user{n}" for n in range(start, start + 500)]) == []
        for start in range(0, 20_000, 500):
            assert seen.repeats([f"user{n}" for n in range(start, start + 500)]) == list(range(500))


def run(program: str, **environment: str) -> str:
    """What `program` prints, in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=True, env={**os.environ, **environment}
    ).stdout


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads the open files from /proc")
def test_what_is_on_disk_is_gone_after_a_crash(tmp_path: Path) -> None:
    open_files = run(
        """
        import os
        from mailer.recipients import Seen
        seen = Seen(in_memory=10)
        seen.repeats([f"{n}@{'x' * 200}" for n in range(150_000)])  # 30 MB, more than the cache
        files = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        print(*(os.readlink(file) for file in files if os.path.islink(file)))
        print(os.listdir(os.environ["SQLITE_TMPDIR"]), flush=True)
        os._exit(0)
        """,
        SQLITE_TMPDIR=str(tmp_path),
    )
    assert f"{tmp_path}/" in open_files, "it is on disk, where it was told to be"
    assert open_files.endswith("[]\n"), "but under no name any more, even while it is used"
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of resident memory from /proc")
def test_memory_does_not_grow_with_the_list() -> None:
    grown_kib = int(
        run("""
        from mailer.recipients import Seen
        def peak():
            return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
        with Seen(in_memory=50_000, afterwards=50_000) as seen:
            peaks = []
            for start in range(0, 600_000, 1000):
                assert not seen.repeats([f"user{n:032}@example.com" for n in range(start, start + 1000)])
                if start in (200_000, 599_000):
                    peaks.append(peak())
        print(peaks[1] - peaks[0])
        """)
    )
    assert grown_kib < 16_000, "400,000 addresses more would be over 50,000 KiB in memory; the rest of the filter is some 9,000"

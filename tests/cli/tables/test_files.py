from __future__ import annotations

import gzip
import io
import subprocess
import sys
from pathlib import Path

import pytest

from flipkd_sdk import atomic
from flipkd_sdk.cli.tables.files import open_input, open_output
from flipkd_sdk.errors import InvalidPairsError, OutputExistsError


def write(path: Path, content: str, *, overwrite: bool = False) -> None:
    with open_output(str(path), overwrite=overwrite) as output:
        output.write(content.encode())


def test_an_output_takes_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with open_output(str(path), overwrite=False) as output:
        output.write(b"a\r\n")
        assert not path.exists()
    assert path.read_bytes() == b"a\r\n"
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), open_output(str(path), overwrite=True) as output:
        output.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_is_overwritten_on_request_only(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write(path, "one")
    with pytest.raises(OutputExistsError, match="exists already; pass --overwrite"):
        write(path, "two")
    assert path.read_text() == "one"
    write(path, "two", overwrite=True)
    assert path.read_text() == "two"


def test_an_output_needs_a_folder_and_must_not_be_one(tmp_path: Path) -> None:
    with pytest.raises(OutputExistsError, match="a directory; name a file"):
        write(tmp_path, "x", overwrite=True)
    with pytest.raises(InvalidPairsError, match=r"the folder .* does not exist"):
        write(tmp_path / "absent" / "out.csv", "x")


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_keeps_pointing_to_the_output(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("one")
    (tmp_path / "link.csv").symlink_to("real.csv")
    write(tmp_path / "link.csv", "two", overwrite=True)
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "two"


@pytest.mark.skipif(sys.platform == "win32", reason="has no /dev/null")
def test_a_device_is_written_to_and_not_replaced() -> None:
    null = Path("/dev/null")
    write(null, "x")
    assert null.is_char_device()


def test_the_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write(tmp_path / "out.csv", "x")
    assert (tmp_path / "out.csv").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_one_output_is_written_by_one_run_at_a_time(tmp_path: Path) -> None:
    path = str(tmp_path / "out.csv")
    with open_output(path, overwrite=False) as output:
        output.write(b"first")
        output.flush()
        with pytest.raises(OutputExistsError, match="another run is writing it"), open_output(path, overwrite=False):
            pass
    assert Path(path).read_bytes() == b"first"


def test_the_temporary_file_of_a_killed_run_is_used_again(tmp_path: Path) -> None:
    (tmp_path / ".out.csv.part").write_text("a long half of a file")
    write(tmp_path / "out.csv", "short")
    assert (tmp_path / "out.csv").read_text() == "short"
    assert len(list(tmp_path.iterdir())) == 1


def test_gzip_is_undone_by_content_and_made_by_name(tmp_path: Path) -> None:
    path = tmp_path / "out.csv.gz"
    contents = []
    for _ in range(2):
        write(path, "a,b\n" * 1000, overwrite=True)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1], "neither the time nor the temporary name is in it"
    assert gzip.decompress(contents[0]) == b"a,b\n" * 1000
    renamed = path.rename(tmp_path / "plain.csv")
    with open_input(str(renamed)) as data:
        assert data.stream.peek()[:4] == b"a,b\n"
        assert "".join(io.TextIOWrapper(data.stream)) == "a,b\n" * 1000
        assert data.position() == data.size == len(contents[0])


def test_a_cut_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" * 1000)[:-6])
    with (
        open_input(str(path)) as data,
        pytest.raises(InvalidPairsError, match=r"cut.csv.gz: cannot be read to its end"),
    ):
        "".join(io.TextIOWrapper(data.stream))


FULL = """
import resource, signal, sys
from flipkd_sdk.cli.tables.files import open_output
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    with open_output(sys.argv[1], overwrite=True) as output:
        for _ in range(1000):
            output.write(b"x" * 1000)
except OSError as error:
    print(error.filename)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limits")
@pytest.mark.parametrize("name", ["out.csv"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("before")
    command = [sys.executable, "-c", FULL, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, str(path), "")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_before_the_lock_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic, "_lock", interrupt)
    with pytest.raises(KeyboardInterrupt), open_output(str(tmp_path / "out.csv"), overwrite=False):
        pass
    assert list(tmp_path.iterdir()) == []

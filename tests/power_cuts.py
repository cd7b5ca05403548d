"""The possible states of a disk after a power cut: every prefix of a run's recorded writes, less unsynced ones.

`record` runs a command under strace and returns its calls on files under a folder. `Disk` replays them on files in
memory, which record what was synced, and writes out what may survive:

    killed      everything that was done: the kernel's buffers survive a kill
    synced      only synced contents and names
    names       all names, but only synced contents: other files are empty
    contents    all contents, but only names whose folders were synced
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

SURVIVES = ("killed", "synced", "names", "contents")
_CALLS = (
    "open,openat,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,rename,renameat,renameat2,unlink,"
    "unlinkat,mkdir,mkdirat,rmdir,fsync,fdatasync,lseek,link,linkat,symlink,symlinkat,copy_file_range,sendfile,"
    "fallocate,close,dup,dup2,dup3,fcntl"
)
_UNFINISHED = ".orbax-checkpoint-tmp"
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)")


class Call(NamedTuple):
    """A successful system call: its name, its arguments as strace writes them, and its result."""

    name: str
    arguments: list[str]
    returned: int


def record(command: Sequence[str], folder: Path, log: Path, **options: object) -> list[Call]:
    """Run a command, which must succeed, and return its calls that name a path under `folder`."""
    strace = [
        "strace",
        "-f",
        "-y",
        "-xx",
        "-s",
        "100000000",
        "-e",
        f"trace={_CALLS}",
        "-e",
        "signal=none",
        "-o",
        str(log),
    ]
    subprocess.run([*strace, *command], check=True, capture_output=True, **options)  # type: ignore[call-overload]
    wanted = _hex(str(folder))
    return [call for call in _calls(log) if any(wanted in argument for argument in call.arguments)]


def _hex(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(text))


def _calls(log: Path) -> Iterator[Call]:
    """Yield the calls in the order of their ends. strace splits a call that another thread interrupts."""
    begun: dict[str, str] = {}
    for line in log.read_text().splitlines():
        pid, _, rest = line.partition(" ")
        rest = rest.strip()
        if rest.endswith("<unfinished ...>"):
            begun[pid] = rest.removesuffix("<unfinished ...>")
            continue
        if rest.startswith("<... "):
            rest = begun.pop(pid, "") + rest.partition(" resumed>")[2]
        found = _LINE.match(f"{pid} {rest}")
        if found and int(found[4]) >= 0:
            yield Call(found[2], _split(found[3]), int(found[4]))


def _split(arguments: str) -> list[str]:
    """Split arguments. All strings are hexadecimal, so that only brackets protect commas."""
    parts, depth = [""], 0
    for each in arguments:
        depth += (each in "[{") - (each in "]}")
        if each == "," and not depth:
            parts.append("")
        else:
            parts[-1] += each
    return [part.strip() for part in parts]


def _bytes(text: str) -> bytes:
    return bytes.fromhex("".join(re.findall(r"\\x([0-9a-f]{2})", text)))


def _file(argument: str) -> tuple[int, str]:
    """Return the number and the path of an open file, `5<\\x2f...>`."""
    number, _, path = argument.partition("<")
    return int(number), os.fsdecode(_bytes(path))


class _Inode:
    """A file or a folder, with its content and the synced part of it."""

    def __init__(self, is_folder: bool):
        self.is_folder = is_folder
        self.entries: dict[str, _Inode] = {}
        self.synced_entries: dict[str, _Inode] = {}
        self.data, self.synced_data = b"", b""

    def sync(self) -> None:
        self.synced_entries, self.synced_data = dict(self.entries), self.data


class Disk:
    """A folder in memory to which calls are applied."""

    def __init__(self, root: Path):
        """Start with the folder alone, which is durable."""
        self._root, self._top = str(root), _Inode(is_folder=True)
        self._offsets: dict[int, int] = {}
        self._appending: set[int] = set()

    def apply(self, call: Call) -> bool:
        """Apply a call, and return whether it may change the state after a power cut."""
        handle = getattr(self, f"_{call.name}", None)
        if handle is None:
            raise NotImplementedError(f"{call.name} of a file of the run")
        return bool(handle(call.arguments, call.returned))

    def left(self, survives: str) -> dict[str, bytes | None]:
        """Return the surviving files by path, `None` for folders."""
        found: dict[str, bytes | None] = {}

        def walk(inode: _Inode, path: str) -> None:
            names = inode.entries if survives in ("killed", "names") else inode.synced_entries
            for name, each in sorted(names.items()):
                inside = f"{path}/{name}" if path else name
                if each.is_folder:
                    found[inside] = None
                    walk(each, inside)
                else:
                    found[inside] = each.data if survives in ("killed", "contents") else each.synced_data

        walk(self._top, "")
        return found

    def _place(self, path: str) -> tuple[_Inode, str] | None:
        """Return the parent folder of a path and its name in it; `None` outside of the root."""
        path = os.path.normpath(path)
        if not path.startswith(f"{self._root}/"):
            return None
        *folders, name = path[len(self._root) + 1 :].split("/")
        inode = self._top
        for each in folders:
            inode = inode.entries[each]
        return inode, name

    def _inode(self, path: str) -> _Inode | None:
        if os.path.normpath(path) == self._root:
            return self._top
        place = self._place(path.removesuffix(" (deleted)"))
        return place[0].entries.get(place[1]) if place else None

    def _path(self, folder: str, name: str) -> str:
        text = os.fsdecode(_bytes(name))
        return text if text.startswith("/") else f"{_file(folder)[1] if '<' in folder else os.getcwd()}/{text}"

    def _open_path(self, path: str, flags: str, number: int) -> bool:
        place = self._place(path)
        self._offsets[number] = 0
        self._appending.discard(number)
        if "O_APPEND" in flags:
            self._appending.add(number)
        if place is None:
            return False
        folder, name = place
        if name not in folder.entries:
            if "O_CREAT" not in flags:
                return False
            folder.entries[name] = _Inode(is_folder=False)
            return True
        if "O_TRUNC" in flags and folder.entries[name].data:
            folder.entries[name].data = b""
            return True
        return False

    def _openat(self, arguments: list[str], returned: str | int) -> bool:
        return self._open_path(self._path(arguments[0], arguments[1]), arguments[2], int(returned))

    def _open(self, arguments: list[str], returned: int) -> bool:
        return self._open_path(os.fsdecode(_bytes(arguments[0])), arguments[1], returned)

    def _put(self, argument: str, data: bytes, at: int | None) -> bool:
        number, path = _file(argument)
        inode = self._inode(path)
        if inode is None:
            return False
        offset = len(inode.data) if number in self._appending else self._offsets.get(number, 0) if at is None else at
        inode.data = inode.data[:offset].ljust(offset, b"\0") + data + inode.data[offset + len(data) :]
        if at is None:
            self._offsets[number] = offset + len(data)
        return True

    def _write(self, arguments: list[str], returned: int) -> bool:
        return self._put(arguments[0], _bytes(arguments[1])[:returned], None)

    def _writev(self, arguments: list[str], returned: int) -> bool:
        bases = re.findall(r'iov_base="([^"]*)"', arguments[1])
        return self._put(arguments[0], b"".join(map(_bytes, bases))[:returned], None)

    def _pwrite64(self, arguments: list[str], returned: int) -> bool:
        return self._put(arguments[0], _bytes(arguments[1])[:returned], int(arguments[3]))

    def _pwritev(self, arguments: list[str], returned: int) -> bool:
        bases = re.findall(r'iov_base="([^"]*)"', arguments[1])
        return self._put(arguments[0], b"".join(map(_bytes, bases))[:returned], int(arguments[3]))

    def _ftruncate(self, arguments: list[str], returned: int) -> bool:
        inode = self._inode(_file(arguments[0])[1])
        if inode is not None:
            inode.data = inode.data[: int(arguments[1])].ljust(int(arguments[1]), b"\0")
        return inode is not None

    def _lseek(self, arguments: list[str], returned: int) -> bool:
        self._offsets[_file(arguments[0])[0]] = returned
        return False

    def _close(self, arguments: list[str], returned: int) -> bool:
        return False

    def _fcntl(self, arguments: list[str], returned: int) -> bool:
        if "F_DUPFD" in arguments[1]:
            self._offsets[returned] = self._offsets.get(_file(arguments[0])[0], 0)
        return False

    def _fsync(self, arguments: list[str], returned: int) -> bool:
        inode = self._inode(_file(arguments[0])[1])
        if inode is not None:
            inode.sync()
        return inode is not None

    _fdatasync = _fsync

    def _mkdir_path(self, path: str) -> bool:
        place = self._place(path)
        if place:
            place[0].entries[place[1]] = _Inode(is_folder=True)
        return place is not None

    def _mkdir(self, arguments: list[str], returned: int) -> bool:
        return self._mkdir_path(self._path("AT_FDCWD", arguments[0]))

    def _mkdirat(self, arguments: list[str], returned: int) -> bool:
        return self._mkdir_path(self._path(arguments[0], arguments[1]))

    def _remove(self, path: str) -> bool:
        place = self._place(path)
        return place is not None and place[0].entries.pop(place[1], None) is not None

    def _unlink(self, arguments: list[str], returned: int) -> bool:
        return self._remove(self._path("AT_FDCWD", arguments[0]))

    _rmdir = _unlink

    def _unlinkat(self, arguments: list[str], returned: int) -> bool:
        return self._remove(self._path(arguments[0], arguments[1]))

    def _move(self, old: str, new: str) -> bool:
        before, after = self._place(old), self._place(new)
        if before is None and after is None:
            return False
        if before is None or after is None:
            raise NotImplementedError(f"{old} is moved into or out of the folder")
        after[0].entries[after[1]] = before[0].entries.pop(before[1])
        return True

    def _rename(self, arguments: list[str], returned: int) -> bool:
        return self._move(*(self._path("AT_FDCWD", each) for each in arguments[:2]))

    def _renameat(self, arguments: list[str], returned: int) -> bool:
        return self._move(self._path(arguments[0], arguments[1]), self._path(arguments[2], arguments[3]))

    _renameat2 = _renameat


def states(calls: Sequence[Call], root: Path) -> Iterator[tuple[int, str, dict[str, bytes | None]]]:
    """Yield every different state that may be left after some of the calls: the number of calls, and what survives.

    States that differ only in an unfinished checkpoint under its temporary name count as one, because its content is
    discarded unread.
    """
    disk, seen = Disk(root), set()
    for number, call in enumerate(calls, 1):
        if not disk.apply(call):
            continue
        for survives in SURVIVES:
            left = disk.left(survives)
            known = [(name, data) for name, data in sorted(left.items()) if _UNFINISHED not in name]
            known += [(name, b"") for name in left if name.endswith(_UNFINISHED)]
            digest = hashlib.sha256(repr(known).encode()).digest()
            if digest not in seen:
                seen.add(digest)
                yield number, survives, left


def write_out(left: dict[str, bytes | None], folder: Path) -> None:
    """Write a state into a folder, which must be empty."""
    for name, data in left.items():
        path = folder / name
        if data is None:
            path.mkdir()
        else:
            path.write_bytes(data)

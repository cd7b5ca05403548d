"""Original files, from a folder or over the network, never used before their checksum is verified."""

import hashlib
import importlib.util
import os
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from pathlib import Path

from aevb.data.source import DatasetError, Original, Source

TIMEOUT_SECONDS = 30.0
_CHUNK = 1 << 20


def folder_of(source: Source, source_dir: Path) -> Path:
    """Return the folder of the originals of `source`: one named for it inside of `source_dir`, or that itself."""
    inside = (source_dir / name for name in (source.name, source.collection) if name)
    return next((folder for folder in inside if folder.is_dir()), source_dir)


def locate_originals(source: Source, source_dir: Path | None, download_dir: Path) -> Path:
    """The folder that holds every original of `source`, each verified.

    Args:
      source: whose files.
      source_dir: a folder that takes the place of the network, or `None`.
      download_dir: where downloads are kept; what is there already and right is not downloaded again.

    Raises:
      DatasetError: a file is missing, cannot be downloaded or is not what its checksum says.
    """
    if source_dir is not None:
        verify_originals(source, source_dir)
        return source_dir
    for original in source.originals:
        path = download_dir / original.name
        if not path.exists():
            _download(source, original, path)
        _verify(original, path)
    return download_dir


def verify_originals(source: Source, source_dir: Path) -> None:
    """Raise `DatasetError` unless `source_dir` holds every original of `source`, each with the right checksum."""
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
    """Fetch from an installed package, or the first address that serves the right bytes.

    The file appears under its name only when it is whole.
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
            except (OSError, HTTPException, DatasetError) as error:
                reason = getattr(error, "reason", None) or error
                failures.append(f"{url}: {reason}")
                if isinstance(error, urllib.error.HTTPError):
                    error.close()
    finally:
        Path(partial).unlink(missing_ok=True)
    packages = [each.partition("/")[0] for each in original.packaged]
    count, install = ("Four", f"install {' or '.join(packages)}, which has them; ") if packages else ("Three", "")
    raise DatasetError(
        f"cannot download {original.name} ({'; '.join(failures)}). {count} ways on: try again "
        f"with a network that reaches these addresses; pass --source_dir (source_dir=...) naming a folder that holds "
        f"the original files of {source.name}; {install}or run python -m experiments.digits, whose data come with "
        f"scikit-learn"
    )


def _packaged(original: Original) -> Path | None:
    """Return the right file of a package that is installed; none is imported. `None` where there is no such package."""
    for path in original.packaged:
        package, _, inside = path.partition("/")
        try:
            spec = importlib.util.find_spec(package)
        except (ImportError, ValueError):
            continue  # a package that is broken is none
        for folder in (spec and spec.submodule_search_locations) or ():
            found = Path(folder, inside)
            try:
                _verify(original, found)
                return found
            except DatasetError:
                continue  # another version of the package has another file
    return None


def _fetch(url: str, original: Original, path: Path) -> None:
    _check_address(url)
    opener = urllib.request.build_opener(_SafeRedirects)
    with opener.open(url, timeout=TIMEOUT_SECONDS) as response, path.open("wb") as file:
        digest, size = hashlib.sha256(), 0
        # A byte too many is enough to know: a server cannot fill the disk.
        while chunk := response.read(min(_CHUNK, original.size + 1 - size)):
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    if size > original.size:
        raise DatasetError(f"longer than the expected {original.size:,} bytes")
    if size < original.size:
        raise DatasetError(f"ended after {size:,} of {original.size:,} bytes")
    if digest.hexdigest() != original.sha256:
        raise DatasetError(f"wrong checksum, SHA-256 {digest.hexdigest()} instead of {original.sha256}")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        try:
            _check_address(newurl)
        except DatasetError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_address(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname == "127.0.0.1"):
        raise DatasetError(f"refused to use {url}: downloads are over https only")

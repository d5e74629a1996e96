"""One file from the internet, fetched once."""

import hashlib
import http.client
import io
import logging
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from gptlab.console import byte_progress
from gptlab.data.files.cache import atomic_replace, locked, safe_name
from gptlab.errors import UserError

log = logging.getLogger(__name__)

_BLOCK = 1 << 16
_TIMEOUT = 30  # seconds without a byte
_SPAN = 60.0  # seconds in which at least so many bytes must come: a server may send one at a time for ever
_SPAN_BYTES = 60_000
MAX_UNPROMISED_BYTES = 16 << 30  # of an answer that does not say how long it is, which may never end


def download(url: str, *, sha256: str | None, folder: Path) -> Path:
    """The file behind an address, from the folder if it was fetched before (with this sha256, if one is given).

    Raises:
        ConnectionError: the address cannot be reached, answers with an error, breaks off or does not end.
        UserError: what came has another sha256, or no address can be so.
    """
    name = safe_name(address_name(url))
    path = folder / f"{hashlib.sha256(f'{url} {sha256}'.encode()).hexdigest()[:16]}-{name}"
    if path.exists():
        return path
    with locked(path):
        if not path.exists():  # another process may have fetched it while this one waited
            with atomic_replace(path) as temporary:
                _fetch(url, temporary, sha256)
            log.info("downloaded %s to %s", url, path)
    return path


def address_name(url: str) -> str:
    """Return the last part of an address's path.

    Raises:
        UserError: no http:// or https:// address can be so.
    """
    try:
        parts = urllib.parse.urlparse(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a bracket or a port that is none
        fits = False
    if not fits or not url.isascii() or not url.isprintable() or " " in url:
        raise UserError(
            f"{url!r:.200} is no address: give https://HOST/PATH, with %XX for blanks and what is not ASCII"
        )
    return Path(parts.path).name


def _fetch(url: str, path: Path, sha256: str | None) -> None:
    instead = "Or fetch it another way, and pass data.path=FILE."
    try:
        found, n_bytes, promised = _copy(url, path)
    except urllib.error.HTTPError as error:
        error.close()
        raise ConnectionError(
            f"{url} cannot be downloaded: HTTP {error.code} {error.reason:.100}. {instead}"
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(f"{url} cannot be downloaded: {reason}. Is there a network? {instead}") from error
    if promised is not None and n_bytes != promised:
        raise ConnectionError(f"{url} broke off after {n_bytes:,} of {promised:,} bytes; try again. {instead}")
    if sha256 is not None and found != sha256:
        raise UserError(
            f"{url} has the sha256 {found}, but data.sha256 is {sha256}: the file there changed, or something stands "
            f"between. Set data.sha256=null to take it as it is. {instead}"
        )


def _copy(url: str, path: Path) -> tuple[str, int, int | None]:
    """-> the sha256 of what came, its bytes, and the bytes that the server promised, if it did."""
    digest, n_bytes = hashlib.sha256(), 0
    with _opener().open(url, timeout=_TIMEOUT) as answer, path.open("wb") as file:
        promised: int | None = answer.length  # no more are read
        with byte_progress(f"Downloading {url}", promised) as advance:
            while block := answer.read1(_BLOCK):
                file.write(block)
                digest.update(block)
                n_bytes += len(block)
                advance(len(block))
                if promised is None and n_bytes > MAX_UNPROMISED_BYTES:
                    raise ConnectionError(f"more than {MAX_UNPROMISED_BYTES:,} bytes came, and no end was promised")
    return digest.hexdigest(), n_bytes, promised


def _opener() -> urllib.request.OpenerDirector:
    """What speaks HTTP and nothing else: by itself the module also follows a redirection to ftp."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Http(),
        _Https(),
        _Redirections(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


class _Redirections(urllib.request.HTTPRedirectHandler):
    """To http:// and https:// only."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> Any:
        address_name(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any) -> Any:
        fp.close()  # the page that comes with it is not read: it need not end
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except ValueError as error:
            raise urllib.error.URLError(f"it redirects, and {error}") from error

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _Paced(io.RawIOBase):
    """What comes from a server, as long as it comes at some speed."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw, self._since, self._n_bytes = raw, time.monotonic(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]  # an IO's own type is private
        if time.monotonic() - self._since > _SPAN:
            if self._n_bytes < _SPAN_BYTES:
                raise TimeoutError(f"only {self._n_bytes:,} bytes came in {_SPAN:.0f} seconds")
            self._since, self._n_bytes = time.monotonic(), 0
        n_bytes = self._raw.readinto(buffer)
        self._n_bytes += n_bytes or 0
        return n_bytes

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fp: Any = io.BufferedReader(_Paced(self.fp.detach()))


class _Connection(http.client.HTTPConnection):
    response_class = _Answer


class _SecureConnection(http.client.HTTPSConnection):
    response_class = _Answer


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_SecureConnection, req)

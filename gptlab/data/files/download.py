"""Downloads, kept in the cache."""

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
from gptlab.data.files.cache import locked_entry, safe_name
from gptlab.errors import NoConnectionError, UserError
from gptlab.storage.atomic import atomic_replace
from gptlab.storage.excerpts import excerpt_path

log = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 16
TIMEOUT_SECONDS = 30  # longest wait for the next bytes
# A server may send one byte at a time forever, so MIN_BYTES_PER_CHECK must arrive between two checks.
SPEED_CHECK_SECONDS = 60.0
MIN_BYTES_PER_CHECK = 60_000
MAX_BYTES_WITHOUT_LENGTH = 16 << 30  # of a response without a Content-Length, which may never end


def download(url: str, *, sha256: str | None, folder: Path) -> Path:
    """Download a file, unless the folder holds it.

    Args:
        sha256: expected of the file; None accepts any content.
        folder: where downloads are kept.

    Raises:
        ConnectionError: the address cannot be reached, answers with an error, breaks off or does not end.
        UserError: the file has another sha256, or the address is malformed.
    """
    name = safe_name(address_name(url))
    path = folder / f"{hashlib.sha256(f'{url} {sha256}'.encode()).hexdigest()[:16]}-{name}"
    if path.exists():
        return path
    with locked_entry(path):
        if not path.exists():  # another process may have fetched it while this one waited
            with atomic_replace(path, locked=True) as temporary:
                _fetch(url, temporary, sha256)
            log.info(f"downloaded {url} to {path}")
    return path


def address_name(url: str) -> str:
    """Return the last part of an address's path.

    Raises:
        UserError: it is not a well-formed http:// or https:// address, or holds a password.
    """
    try:
        parts = urllib.parse.urlparse(url)
        (parts.hostname or "").encode("idna")  # as a connection will
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a stray bracket, a port that is not a number, a part of the host's name without letters
        valid = False
    if not valid or not url.isascii() or not url.isprintable() or " " in url:
        raise UserError(
            f"{url!r:.200} is not an address: give https://HOST/PATH, with %XX for blanks and characters beyond ASCII"
        )
    if "@" in parts.netloc:  # the address is not quoted, and is kept out of the log
        raise UserError(
            f"an address at {parts.hostname:.200} names a user: fetch the file another way and pass data.path=FILE"
        )
    return Path(parts.path).name


def _fetch(url: str, path: Path, sha256: str | None) -> None:
    shown, instead = excerpt_path(url), "or fetch it another way and pass data.path=FILE"
    try:
        digest, n_bytes, announced = _write_response(url, path)
    except urllib.error.HTTPError as error:
        error.close()
        raise NoConnectionError(
            f"{shown} cannot be downloaded: HTTP {error.code} {error.reason:.100}; check the address, {instead}"
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise NoConnectionError(f"{shown} cannot be downloaded: {reason}; check the network, {instead}") from error
    if announced is not None and n_bytes != announced:
        raise NoConnectionError(f"{shown} broke off after {n_bytes:,} of {announced:,} bytes: try again, {instead}")
    if sha256 is not None and digest != sha256:
        raise UserError(
            f"{shown} has the sha256 {digest}, but data.sha256 is {sha256}: the file has changed, or a proxy sent "
            f"something else; set data.sha256=null to accept any content, {instead}"
        )


def _write_response(url: str, path: Path) -> tuple[str, int, int | None]:
    """Write a response to a file.

    Returns:
        The sha256, the number of bytes received, and the number that the server announced or None.
    """
    digest, n_bytes = hashlib.sha256(), 0
    with _opener().open(url, timeout=TIMEOUT_SECONDS) as response, path.open("wb") as file:
        announced: int | None = response.length  # http.client stops there
        with byte_progress(f"Downloading {url}", announced) as advance:
            while block := response.read1(BLOCK_BYTES):
                file.write(block)
                digest.update(block)
                n_bytes += len(block)
                advance(len(block))
                if announced is None and n_bytes > MAX_BYTES_WITHOUT_LENGTH:
                    raise NoConnectionError(
                        f"more than {MAX_BYTES_WITHOUT_LENGTH:,} bytes arrived, and the server announced no length"
                    )
    return digest.hexdigest(), n_bytes, announced


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for http and https only.

    urllib's default opener also follows redirects to ftp.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _HttpHandler(),
        _HttpsHandler(),
        _RedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    """Redirects to http:// and https:// only."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> Any:
        address_name(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any) -> Any:
        fp.close()  # do not read the body of the redirect, which may never end
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except ValueError as error:
            raise urllib.error.URLError(f"it redirects, and {error}") from error

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _MinimumSpeedStream(io.RawIOBase):
    """A stream with a minimum speed.

    Reading below it raises TimeoutError.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw, self._last_check, self._n_bytes = raw, time.monotonic(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]  # an IO's own type is private
        if time.monotonic() - self._last_check > SPEED_CHECK_SECONDS:
            if self._n_bytes < MIN_BYTES_PER_CHECK:
                raise TimeoutError(f"only {self._n_bytes:,} bytes arrived in {SPEED_CHECK_SECONDS:.0f} seconds")
            self._last_check, self._n_bytes = time.monotonic(), 0
        n_bytes = self._raw.readinto(buffer)
        self._n_bytes += n_bytes or 0
        return n_bytes

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fp: Any = io.BufferedReader(_MinimumSpeedStream(self.fp.detach()))


class _Connection(http.client.HTTPConnection):
    response_class = _Response


class _SecureConnection(http.client.HTTPSConnection):
    response_class = _Response


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_SecureConnection, req)

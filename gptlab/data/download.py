"""One file from the internet, fetched once."""

import hashlib
import http.client
import logging
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from gptlab.data.disk import making, replacing
from gptlab.data.progress import progress

log = logging.getLogger(__name__)

_BLOCK = 1 << 16
_TIMEOUT = 30  # seconds without a byte


def download(url: str, *, sha256: str | None, folder: Path) -> Path:
    """The file behind an address, from the folder if it was fetched before (with this sha256, if one is given).

    Raises:
        ConnectionError: the address cannot be reached, answers with an error, or breaks off.
        ValueError: what came has another sha256.
    """
    name = Path(urllib.parse.urlparse(url).path).name
    path = folder / f"{hashlib.sha256(f'{url} {sha256}'.encode()).hexdigest()[:16]}-{name}"
    if path.exists():
        return path
    with making(path):
        if not path.exists():  # another process may have fetched it while this one waited
            with replacing(path) as temporary:
                _fetch(url, temporary, sha256)
            log.info("downloaded %s to %s", url, path)
    return path


def _fetch(url: str, path: Path, sha256: str | None) -> None:
    instead = "Or fetch it another way, and pass data.path=FILE."
    try:
        found, n_bytes, promised = _copy(url, path)
    except urllib.error.HTTPError as error:
        raise ConnectionError(f"{url} cannot be downloaded: HTTP {error.code} {error.reason}. {instead}") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(f"{url} cannot be downloaded: {reason}. Is there a network? {instead}") from error
    if promised is not None and n_bytes != promised:
        raise ConnectionError(f"{url} broke off after {n_bytes:,} of {promised:,} bytes; try again. {instead}")
    if sha256 is not None and found != sha256:
        raise ValueError(
            f"{url} has the sha256 {found}, but data.sha256 is {sha256}: the file there changed, or something stands "
            f"between. Set data.sha256=null to take it as it is. {instead}"
        )


def _copy(url: str, path: Path) -> tuple[str, int, int | None]:
    """-> the sha256 of what came, its bytes, and the bytes that the server promised, if it did."""
    digest, n_bytes = hashlib.sha256(), 0
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer, path.open("wb") as file:
        length = answer.headers.get("Content-Length")
        promised = None if length is None else int(length)
        with progress(f"Downloading {url}", promised) as advance:
            while block := answer.read(_BLOCK):
                file.write(block)
                digest.update(block)
                n_bytes += len(block)
                advance(len(block))
    return digest.hexdigest(), n_bytes, promised

"""TensorBoard's pages of a run, in a browser."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import TrainedRun

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SHOWN = {  # page -> what its text has
    "timeseries": ("train/loss", "train/bits_per_byte"),
    "scalars": ("train", "val", "weights", "work"),
    "custom_scalars": ("metrics", "weights", "work", "loss", "perplexity", "update-to-weight ratio"),
    "text": ("run/info/text_summary", "run/config/text_summary"),
    "hparams": ("val_best/loss", "optim.lr", "model.n_layers"),
}


@pytest.fixture(scope="module")
def address(tiny_run: TrainedRun) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tiny_run.folder), "--port", str(port)]
    server = subprocess.Popen([*command, "--load_fast", "false"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(240):
            try:
                if b"." in urllib.request.urlopen(f"http://127.0.0.1:{port}/data/runs").read():
                    break
            except OSError:
                pass
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_every_page_shows_what_the_readme_says(address: str) -> None:
    sync_playwright: Any = pytest.importorskip("playwright.sync_api").sync_playwright
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name, texts in SHOWN.items():
            page = browser.new_page(viewport={"width": 1500, "height": 1000})
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(f"{address}/#{name}")
            for text in texts:  # the search goes into shadow roots, and waits
                page.get_by_text(text, exact=True).first.wait_for(state="attached", timeout=60_000)
            page.close()
        browser.close()
    assert errors == []

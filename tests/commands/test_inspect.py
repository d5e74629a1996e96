"""gptlab inspect: the page of a run, of two, and what is answered in a sentence."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gptlab import Run
from gptlab.commands.inspect import main
from gptlab.config.plain import Config
from gptlab.errors import UserError
from gptlab.prompts.style import TurnStyle
from gptlab.workflows.inspect import page_path, read_text
from tests.conftest import TrainedRun
from tests.insight.test_lens import classifier
from tests.insight.test_page import ADDRESS, parsed

TEXT = "And the king saw the river.\nAnd </script> é"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def test_a_page_of_a_run_and_its_summary(
    tiny_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "new" / "page.html"
    main([f"run={tiny_run.folder}", f"text={TEXT}", f"to={page}", "output=json"])
    summary = json.loads(capsys.readouterr().out)
    text = page.read_text(encoding="utf-8")
    assert summary["page"] == str(page)
    assert summary["bytes"] == page.stat().st_size
    values = parsed(text)
    [model] = values["models"]
    assert "".join(model["tokens"][:6]) == TEXT[: sum(model["sizes"][:6])]
    assert sum(model["sizes"]) == len(TEXT.encode())
    assert [*model["attention"]] == ["0", "1"]
    assert ["step", f"{tiny_run.summary['best_step']:,}"] in model["facts"]
    assert not ADDRESS.search(text.partition('id="data">')[0])
    losses = model["scores"]["losses"]
    assert summary["models"][0]["loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-3)

    other = tmp_path / "two.html"
    main([f"run=[{tiny_run.folder},{tiny_run.folder}]", f"text={TEXT}", f"to={other}", "max_tokens=5"])
    out = capsys.readouterr().out
    assert "difference: +0.000 bits per byte over" in out
    assert "the first 5 are shown (max_tokens=5)" in out
    values = parsed(other.read_text(encoding="utf-8"))
    assert [len(model["ids"]) for model in values["models"]] == [5, 5]
    assert len(values["spans"]) == 5


def test_the_page_lies_beside_the_reports_and_replaces_only_pages(tiny_run: TrainedRun, tmp_path: Path) -> None:
    folder = str(tiny_run.folder)
    assert page_path([folder], None) == tiny_run.folder / "evaluation" / "inspect.html"
    assert page_path([folder, folder], None).name == "inspect_two.html"
    notes = tmp_path / "notes.html"
    notes.write_text("my own", encoding="utf-8")
    for to, sentence in (
        ("page", "to is page, which a browser would not open as a page: give a name that ends in .html"),
        (str(notes), "is there and is no page of gptlab inspect: give to= another name"),
        ("", "to is empty"),
        (str(notes / "page.html"), "cannot be written, because .*notes.html is no folder of yours"),
    ):
        with pytest.raises(UserError, match=sentence):
            page_path([folder], to)
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        page_path([folder], str(tmp_path / "folder.html"))


def test_mistakes_are_reported_together(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run=[a,b,c]", "text=", "layer=3", "layers=3"])
    err = capsys.readouterr().err
    assert "text is empty: give text= a text of at least one character" in err
    assert "give one, or two to see side by side, 'run=[a, b]'" in err
    assert "did you mean layers" in err
    assert "layers is '3': it must be a list, such as [1,2]" in err


@pytest.fixture(scope="module")
def run(tiny_run: TrainedRun) -> Run:
    return Run.open(tiny_run.folder)


def config(**changes: Any) -> Config:
    values = {"chat": "auto", "max_tokens": 256, "seed": 1, "sampling": {"max_new_tokens": 4, "temperature": 0.0}}
    return Config({**values, **changes})


def test_a_text_longer_than_the_context_is_cut_and_says_so(run: Run) -> None:
    reading = read_text(run, "And the king saw the river. " * 20, None, config())
    assert len(reading.ids) == 32
    assert reading.notes[0].endswith("the first 32 are shown (the model reads no more at once)")
    assert read_text(run, "And", None, config()).notes == ()


def test_a_question_is_written_with_its_answer_and_what_is_learned_of_it(run: Run) -> None:
    run.style = TurnStyle(
        name="short",
        preamble="",
        system="{content}\n",
        user="{content}\n",
        input=" {input}",
        assistant="And",
        end=None,
        separator="\n",
    )
    reading = read_text(run, "the king", " saw the river", config())
    learned = [token for token, kept in zip(reading.ids, reading.learned or [], strict=True) if kept]
    assert run.tokenizer.decode(reading.ids) == "the king\nAnd saw the river<|endoftext|>"
    assert run.tokenizer.decode(learned) == " saw the river<|endoftext|>"
    own = read_text(run, "the king", None, config(chat=True))
    assert own.notes == ("the model wrote the answer itself, and was cut at sampling.max_new_tokens=4",)
    assert sum(own.learned or []) in (4, 5)
    assert read_text(run, "the king", None, config()).learned is None  # its data were running text
    with pytest.raises(UserError, match="chat=false reads running text"):
        read_text(run, "Who?", "The king.", config(chat=False))
    with pytest.raises(UserError, match="tokens with its template, but the model reads at most 32: ask a shorter one"):
        read_text(run, "the king saw the river" * 9, None, config(chat=True))


def test_run_attention_and_run_lens(run: Run) -> None:
    ids = run.tokenizer.encode("And the king saw")
    weights, lens = run.attention(ids), run.lens(ids)
    assert weights.shape == (2, 1, 2, len(ids), len(ids))
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert torch.equal(lens[-1], run.logits(torch.tensor([ids])))
    assert torch.equal(run.attention("And the king saw", layers=[-1]), weights[1:])
    assert torch.equal(run.lens(torch.tensor([ids, ids]))[-1][1], run.logits(torch.tensor([ids, ids]))[1])


def test_logits_of_a_classifier_are_those_of_its_lens(tiny_run: TrainedRun) -> None:
    run = Run.open(tiny_run.folder)
    run.head = classifier(run.model)
    ids = torch.tensor([run.tokenizer.encode("And the king")] * 2)
    assert run.logits(ids).shape == (2, 3)
    assert torch.equal(run.lens(ids)[-1], run.logits(ids))


@pytest.fixture
def browser_page(tmp_path: Path) -> Iterator[Any]:
    """A page of Chromium that remembers what it complains about and asks for."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("request", lambda request: page.complaints.append(request.url) if request.url[:5] != "file:" else None)
        yield page
        browser.close()


def open_page(page: Any, path: Path) -> None:
    page.goto(path.as_uri())
    page.wait_for_selector(".heads[data-drawn]")


@pytest.mark.browser
def test_the_page_in_a_browser(tiny_run: TrainedRun, tmp_path: Path, browser_page: Any) -> None:
    path, page = tmp_path / "page.html", browser_page
    main([f"run={tiny_run.folder}", f"text={TEXT}", f"to={path}"])
    open_page(page, path)
    section = page.locator("section").nth
    assert page.locator("h1").inner_text() == "Inside tiny"
    assert "</script> C3A9" in section(0).locator(".strip").inner_text()

    section(0).locator(".token").nth(2).hover()
    assert page.locator("#tip").is_visible()
    assert "rank" in page.locator("#tip").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()

    section(0).locator(".token").nth(1).click()
    assert section(0).locator(".detail .bar").count() == 10
    page.keyboard.press("ArrowRight")
    assert section(0).locator("[aria-selected=true]").get_attribute("data-token") == "2"
    assert page.locator(".lens .chosen").first.get_attribute("data-token") == "1"

    page.locator(".heads button").nth(0).focus()
    page.keyboard.press("ArrowDown")
    assert section(1).locator("h3").inner_text() == "Layer 1, head 0"
    section(1).locator(".token").nth(3).hover()
    assert "looks at" in page.locator("#tip").inner_text()
    shades = (
        section(1)
        .locator(".token")
        .evaluate_all("all => all.map((each) => parseInt(each.style.getPropertyValue('--a')))")
    )
    assert any(shades[:4])
    assert not any(shades[4:])
    page.locator(".lens .cell").nth(2).hover()
    assert "%" in page.locator("#tip").inner_text()
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.complaints == []


@pytest.mark.browser
def test_two_models_in_a_browser(tiny_run: TrainedRun, tmp_path: Path, browser_page: Any) -> None:
    path, page = tmp_path / "two.html", browser_page
    main([f"run=[{tiny_run.folder},{tiny_run.folder}]", f"text={TEXT}", f"to={path}"])
    open_page(page, path)
    assert "They are alike" in page.locator("main").inner_text()
    page.locator(".strip").first.locator(".token").nth(3).click()
    assert page.locator("section").first.locator("[aria-selected=true]").count() == 2
    page.locator(".strip").first.locator(".token").nth(3).hover()
    assert "bits" in page.locator("#tip").inner_text()
    assert page.complaints == []

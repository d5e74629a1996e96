"""gptlab chat run=...: a conversation with a model, in the terminal."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gptlab.commands.errors import report_errors
from gptlab.commands.terminal import write
from gptlab.config.compose import compose_config
from gptlab.config.plain import keywords
from gptlab.errors import UserError

if TYPE_CHECKING:
    from gptlab.generation.chat_session import ChatSession

HELP = """\
  /regenerate            another answer to the last question
  /system TEXT           tells the model something before all, and begins anew
  /reset                 begins anew
  /set temperature=0.5   changes the sampling: temperature, top_k, top_p, min_p, max_new_tokens ...
  /save FILE.jsonl       adds the conversation to a file that data=chat reads
  /help                  this
  /quit or Ctrl-D        ends; Ctrl-C stops an answer"""


def main(overrides: list[str]) -> None:
    """Asks and answers until there is nothing more to be said."""
    with report_errors():
        cfg = compose_config("chat", overrides)

        # torch takes seconds to import: mistakes are told before
        from gptlab.run import Run
        from gptlab.workflows.chat import start_chat
        from gptlab.workflows.precision import choose_device, prepare_generation

        run = Run.open(cfg.run, device=choose_device(cfg.device))
        run.text_generator.seed = cfg.seed
        conversation = start_chat(run, cfg.prompt, system=cfg.system)
        conversation.sampling = keywords(cfg.sampling)
        with prepare_generation(run, cfg.precision):
            _Terminal(conversation).talk()


class _Terminal:
    """Lines that are typed, and what becomes of them."""

    def __init__(self, conversation: "ChatSession") -> None:
        self.conversation = conversation
        self.n_forgotten = 0  # turns of which the person was told
        self.commands: dict[str, Callable[[str], None]] = {
            "/regenerate": lambda _: self._say(self.conversation.ask_again()),
            "/system": lambda text: self._begin(text or None),
            "/reset": lambda _: self._begin(self.conversation.system),
            "/set": self._set,
            "/save": self._save,
            "/help": lambda _: print(HELP),
        }

    def talk(self) -> None:
        """Until /quit, or the end of what is typed."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # arrow keys in what is typed, where the system has it
        if sys.stdin.isatty():
            print("/help shows what can be done; Ctrl-C stops an answer, Ctrl-D ends")
        while (line := self._line()) is not None:
            try:
                self._take(line)
            except (UserError, OSError) as error:
                print(error)

    def _line(self) -> str | None:
        """The next line that says something; None at the end."""
        while True:
            try:
                line = input("> " if sys.stdin.isatty() else "").strip()
            except KeyboardInterrupt:
                print("\n(Ctrl-D or /quit ends)")
                continue
            except EOFError:
                return None
            if line:
                return None if line == "/quit" else line

    def _take(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word in self.commands:
            self.commands[word](rest.strip())
        elif word.startswith("/") and word[1:].isalpha():
            print(f"{word} is no command; there are {', '.join(self.commands)}, /quit")
        else:
            self._say(self.conversation.ask(line))

    def _say(self, pieces: Iterator[str]) -> None:
        if self.conversation.n_forgotten > self.n_forgotten:
            print(f"(the first {self.conversation.n_forgotten} turns no longer fit, and are forgotten)")
        self.n_forgotten = self.conversation.n_forgotten
        try:
            for piece in pieces:
                write(piece)
        except KeyboardInterrupt:
            print(" ...", end="")
            pieces.close()  # type: ignore[attr-defined]  # a generator: it remembers how far it came
        print()

    def _begin(self, system: str | None) -> None:
        self.conversation.reset(system)
        print(f"(a new conversation, {'without' if system is None else 'with this'} system text)")

    def _set(self, text: str) -> None:
        try:
            changes = {str(key): value for key, value in OmegaConf.from_dotlist(text.split()).items()}
        except OmegaConfBaseException as error:
            raise UserError(f"{text} cannot be read ({error}): write /set key=value") from None
        known = vars(self.conversation.text_generator.sampling)
        if unknown := [key for key in changes if key not in known]:
            raise UserError(f"{', '.join(unknown)} is no key of the sampling; there are {', '.join(known)}")
        changed = self.conversation.sampling | changes
        try:
            dataclasses.replace(self.conversation.text_generator.sampling, **changed)
        except TypeError:
            raise UserError(f"/set {text}: that is no value of this kind; see conf/sampling/creative.yaml") from None
        self.conversation.sampling = changed
        print(f"({', '.join(f'{key}={value}' for key, value in changes.items())} from now on)")

    def _save(self, text: str) -> None:
        if not text:
            raise UserError("/save wants a file: /save talk.jsonl")
        if not self.conversation.turns:
            raise UserError("nothing was said yet")
        path = Path(text).expanduser()
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"messages": self.conversation.messages()}, ensure_ascii=False) + "\n")
        print(f"added to {path}")

"""gptlab chat run=...: a conversation with a model, in the terminal."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gptlab.commands.errors import report_errors
from gptlab.commands.terminal import write, write_note, write_own_sampling
from gptlab.config.compose import typed_values
from gptlab.errors import UserError, is_users
from gptlab.workflows.run_choice import compose_with_run

if TYPE_CHECKING:
    from rich.console import Console

    from gptlab.generation.chat_session import ChatSession
    from gptlab.generation.streaming import TextPieces

HELP = """\
  /regenerate            answer the last question again
  /system TEXT           start a new conversation with this system text
  /reset                 start a new conversation
  /set temperature=0.5   change the sampling: temperature, top_k, top_p, min_p, max_new_tokens ...
  /save FILE.jsonl       append the conversation to a file that data=chat reads
  /help                  show this
  /quit or Ctrl-D        quit; Ctrl-C stops an answer"""


def main(overrides: list[str]) -> None:
    """Chat in the terminal until the user quits."""
    with report_errors():
        cfg = compose_with_run("chat", overrides)

        # torch takes seconds to import: a user's errors are reported before
        from gptlab.run import Run
        from gptlab.workflows.chat import choose_sampling, start_chat
        from gptlab.workflows.precision import choose_device, prepare_generation

        run = Run.open(cfg.run, device=choose_device(cfg.device))
        run.text_generator.seed = cfg.seed
        session = start_chat(run, cfg.prompt, system=cfg.system)
        session.sampling, own = choose_sampling(run, cfg.sampling, typed_values("sampling", cfg, overrides))
        write_own_sampling(own)
        with prepare_generation(run, cfg.precision):
            _Terminal(session).run()


def _typing_prompt(console: "Console") -> str:
    """Return the prompt at which the user types, coloured where the console is."""
    if console.color_system is None or console.no_color:
        return "you> "
    cyan, end = "\x1b[36m", "\x1b[0m"
    if "readline" in sys.modules:
        cyan, end = f"\001{cyan}\002", f"\001{end}\002"  # which it does not count as characters
    return f"{cyan}you> {end}"


class _Terminal:
    """Read lines: commands that begin with `/`, and questions."""

    def __init__(self, session: "ChatSession") -> None:
        from rich.console import Console

        self.session = session
        self.console = Console(highlight=False, soft_wrap=True)
        self.prompt = ""  # what the user types after; empty if nobody types
        self.n_forgotten = 0  # turns that no longer fit, as last reported to the user
        self.commands: dict[str, Callable[[str], None]] = {
            "/regenerate": lambda _: self._print_answer(self.session.ask_again()),
            "/system": lambda text: self._restart(text or None),
            "/reset": lambda _: self._restart(self.session.system),
            "/set": self._set_sampling,
            "/save": self._save,
            "/help": lambda _: print(HELP),
        }

    def run(self) -> None:
        """Answer lines until /quit or end of input."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # arrow keys while typing, if the system has it
        if sys.stdin.isatty():
            self.prompt = _typing_prompt(self.console)
            print("/help lists the commands; Ctrl-C stops an answer, Ctrl-D quits")
        while (line := self._read_line()) is not None:
            try:
                self._handle(line)
            except Exception as error:
                if not is_users(error):
                    raise
                write(f"{error}\n", style="red")

    def _read_line(self) -> str | None:
        """Return the next line, or None at the end."""
        while True:
            try:
                line = input(self.prompt).strip()
            except KeyboardInterrupt:
                print("\n(Ctrl-D or /quit to quit)")
                continue
            except EOFError:
                return None
            if line:
                return None if line == "/quit" else line

    def _handle(self, line: str) -> None:
        """Run a command, or answer a question."""
        word, _, rest = line.partition(" ")
        if word in self.commands:
            self.commands[word](rest.strip())
        elif word.startswith("/") and word[1:].isalpha():
            write(f"{word} is not a command; there are {', '.join(self.commands)}, /quit\n", style="red")
        else:
            self._print_answer(self.session.ask(line))

    def _print_answer(self, pieces: "TextPieces") -> None:
        """Stream an answer to the terminal; Ctrl-C stops it."""
        if self.session.n_forgotten > self.n_forgotten:
            write_note(f"(the first {self.session.n_forgotten} turns no longer fit into the context)")
        self.n_forgotten = self.session.n_forgotten
        if self.console.is_terminal:
            self.console.print("model> ", style="green", end="")
        try:
            for piece in pieces:
                write(piece)
        except KeyboardInterrupt:
            print(" ...", end="")
            pieces.close()  # the generator then keeps the answer so far
        finally:
            print()  # an error begins a line of its own
        if pieces.cut:
            write_note(f"(cut at max_new_tokens={self.session.max_new_tokens}; /set max_new_tokens=N changes it)")
        elif not self.session.turns[-1].content:
            write_note("(the model ended its turn at once: an empty answer)")

    def _restart(self, system: str | None) -> None:
        """Start a new conversation."""
        self.session.reset(system)
        print(f"(new conversation {'without' if system is None else 'with this'} system text)")

    def _set_sampling(self, text: str) -> None:
        """Change keys of the sampling.

        Raises:
            UserError: a key is unknown, or its value cannot be used.
        """
        try:
            changes = {str(key): value for key, value in OmegaConf.from_dotlist(text.split()).items()}
        except OmegaConfBaseException as error:
            raise UserError(f"/set {text} cannot be read ({error}): write /set key=value") from None
        known = vars(self.session.text_generator.sampling)
        if unknown := [key for key in changes if key not in known]:
            raise UserError(f"{', '.join(unknown)} is not a key of the sampling; there are {', '.join(known)}")
        changed = self.session.sampling | changes
        try:
            dataclasses.replace(self.session.text_generator.sampling, **changed)
        except TypeError:
            raise UserError(f"/set {text}: the value has the wrong type: see conf/sampling/creative.yaml") from None
        self.session.sampling = changed
        print(f"({', '.join(f'{key}={value}' for key, value in changes.items())} from now on)")

    def _save(self, text: str) -> None:
        """Append the conversation to a file.

        Raises:
            UserError: no file is named, or there is nothing to save.
        """
        if not text:
            raise UserError("/save needs a file: /save talk.jsonl")
        if not self.session.turns:
            raise UserError("there is nothing to save yet: ask something first")
        path = Path(text).expanduser()
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"messages": self.session.messages()}, ensure_ascii=False) + "\n")
        print(f"saved to {path}")

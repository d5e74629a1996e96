"""Hostile files, and the commands that open them."""

import io
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.faults.hostile_world import World, edit, edit_content

Change = Callable[[Path], object]


class Case(NamedTuple):
    """A hostile input, made from a harmless one."""

    name: str
    base: str  # which folder of the world's it is a copy of
    change: Callable[[World, Path], object]
    doors: tuple[str, ...]
    works: bool | None = False  # True: it is harmless as data; None: either, as long as nothing happens


def doors(world: World, folder: Path, base: str) -> dict[str, tuple[str, list[str]]]:
    """Return the command and its words for an entry point."""
    out, data = folder.with_name(f"{folder.name}-out"), ["data=text", f"data.path={world.text}"]
    short = ["debug=smoke", "trainer.accelerator=cpu", "trainer.precision=32-true", f"output_dir={out}"]
    again = {
        "classifier": ["data=jsonl", f"data.path={world.root}/bases/rows.jsonl"],
        "instruction": ["data=chat", "data.reader.format=columns", f"data.path={world.root}/bases/turns.jsonl"],
        "preference": ["data=preferences", f"data.path={world.root}/bases/pairs.jsonl"],
    }.get(base, data)
    return {
        "generate": ("generate", [f"run={folder}", "prompt=And", "sampling.max_new_tokens=2"]),
        "chat": ("chat", [f"run={folder}", "sampling.max_new_tokens=2"]),
        "classify": ("classify", [f"run={folder}", "text=the king sleeps"]),
        "evaluate": ("evaluate", [f"run={folder}", *again, "n_questions=0", "n_answers=0"]),
        "evaluate itself": ("evaluate", [f"run={folder}", "n_questions=0"]),
        "compare": ("compare", [f"run=[{folder},{world.bases['lm']}]", *data, "sampling.max_new_tokens=2"]),
        "export": ("export", [f"run={folder}", f"to={out}"]),
        "resume": ("train", [f"resume={folder}", "trainer.max_steps=40", again[-1]]),
        "resume itself": ("train", [f"resume={folder}", "trainer.max_steps=40"]),
        "weights=run": (
            "train",
            ["weights=run", f"weights.run={folder}", "model=pretrained", "tokenizer=pretrained", *data, *short]
            + ["prompt=pretrained"] * (base == "instruction"),
        ),
        "weights=hf": (
            "train",
            ["weights=hf", f"weights.path={folder}", "model=pretrained", "tokenizer=pretrained", *data, *short],
        ),
        "data": ("data", ["tokenizer=bytes", "data=text", f"data.path={folder / 'x.txt'}", "model=tiny", *short[1:3]]),
    }


def cases() -> Iterator[Case]:
    """Return all hostile inputs."""
    yield from _targets()
    yield from _texts()
    yield from _sizes()
    yield from _folders()
    yield from _bases()
    yield from _training_states()
    yield from _published()
    yield from _files()


def _config(change: Callable[[World, dict[str, Any]], object]) -> Callable[[World, Path], object]:
    """Change a record's configuration, resolved and as written."""

    def edit_both(world: World, folder: Path) -> None:
        def both(record: dict[str, Any]) -> None:
            change(world, record["config"])
            change(world, record["references"])

        edit(both)(folder)

    return edit_both


def _set(key: str, value: Callable[[World], Any]) -> Callable[[World, Path], object]:
    def change(world: World, config: dict[str, Any]) -> None:
        *parents, last = key.split(".")
        node = config
        for parent in parents:
            node = node[parent]
        node[last] = value(world)

    return _config(change)


def _targets() -> Iterator[Case]:
    """Yield forbidden targets for every key that builds something."""
    attacks: dict[str, Callable[[World], dict[str, Any]]] = {
        "mkdir": lambda w: {"_target_": "os.mkdir", "path": f"{w.root}/evil/mkdir"},
        "write_text": lambda w: {"_target_": "pathlib.Path.write_text", "_args_": [f"{w.root}/evil/text", "x"]},
        "pip": lambda w: {"_target_": "pip.main", "args": ["install", f"{w.root}/packages"]},
        "hub": lambda w: {"_target_": "torch.hub.load", "repo_or_dir": "evil/evil", "model": "x"},
        "load": lambda w: {"_target_": "torch.load", "f": f"{w.root}/x.pt", "weights_only": False},
        "eval": lambda w: {"_target_": "builtins.eval", "_args_": [f"open({str(w.root / 'evil/eval')!r}, 'w')"]},
        "system": lambda w: {"_target_": "os.system", "command": f"touch {w.root}/evil/system"},
        "Judge": lambda w: {"_target_": "gptlab.evaluation.judge.Judge", "url": "http://127.0.0.1:9/", "model": "x"},
        "score": lambda w: {"_target_": "gptlab.evaluation.judge.Judge.score", "question": "${oc.env:SECRET}"},
        "write_checkpoint": lambda w: {
            "_target_": "gptlab.storage.checkpoint.write_checkpoint",
            "path": f"{w.root}/evil/x.ckpt",
        },
        "Folder": lambda w: {"_target_": "gptlab.weights.sources.Folder", "path": "evil/evil", "revision": None},
        "to_yaml": lambda w: {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint.to_yaml", "filepath": "x"},
        "import": lambda w: {"_target_": "evilpkg.Thing"},
    }
    for place, opens in {
        "sampling": ("generate", "export"),
        "model": ("generate", "weights=run"),
        "head": ("evaluate",),
        "tuning": ("export",),
        "prompt": ("generate", "compare"),
    }.items():
        for name, attack in attacks.items():
            yield Case(f"{place} is {name}", "lm", _set(place, attack), opens if name != "Judge" else opens[:1])
    yield Case("prompt is mkdir", "instruction", _set("prompt", attacks["mkdir"]), ("chat", "weights=run"))
    yield Case("data is mkdir", "classifier", _set("data", attacks["mkdir"]), ("classify", "evaluate itself"))
    yield Case("reader is mkdir", "classifier", _set("data.reader", attacks["mkdir"]), ("classify",))
    for place in ("optim", "schedule", "trainer", "data.reader", "callbacks.samples", "logger.tensorboard"):
        for name in ("mkdir", "import", "eval"):
            yield Case(f"{place} is {name}", "lm", _set(place, attacks[name]), ("resume",))
    writer = {"_target_": "lightning.pytorch.loggers.csv_logs.ExperimentWriter", "log_dir": "/tmp/gptlab-evil"}
    saver = {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "dirpath": "/tmp/gptlab-evil"}
    yield Case("Lightning's writer", "lm", _set("logger.evil", lambda w: writer), ("resume", "resume itself"))
    yield Case("Lightning's checkpoints", "lm", _set("callbacks.evil", lambda w: saver), ("resume",))
    yield Case(
        "a part within a list", "lm", _set("model.rope_scaling", lambda w: {"a": [attacks["mkdir"](w)]}), ("generate",)
    )
    yield Case("positional arguments", "lm", _set("sampling._args_", lambda w: ["x"]), ("generate",))
    yield Case("a partial that waits for nothing", "lm", _set("sampling._partial_", lambda w: True), ("generate",))


def _texts() -> Iterator[Case]:
    """Yield interpolations and addresses, which are plain text in a record."""

    def evil(world: World, config: dict[str, Any]) -> None:
        config["evil"] = {"_target_": "pathlib.Path.write_text", "_args_": [f"{world.root}/evil/text", "x"]}
        config["sampling"]["top_k"] = "${evil}"

    yield Case("a reference to a part", "lm", _config(evil), ("generate", "export", "resume"))
    create = "${oc.create:{_target_:os.mkdir,_args_:['/tmp/gptlab-evil']}}"
    for key in ("sampling.top_k", "model.n_layers", "seed"):
        yield Case(f"{key} is created", "lm", _set(key, lambda w: create), ("generate", "resume"))
    for text in ("${oc.env:SECRET}", "\\${oc.env:SECRET}", "${oc.decode:${oc.env:SECRET}}"):
        yield Case(f"name is {text}", "lm", _set("name", lambda w, text=text: text), ("export", "resume"), works=None)
    yield Case("name leads out", "lm", _set("name", lambda w: "../../evil/x"), ("generate", "resume"))
    yield Case(
        "a secret in the prompt",
        "instruction",
        _set("prompt.assistant", lambda w: "${oc.env:SECRET}"),
        ("chat",),
        works=True,
    )
    yield Case(
        "hydra in the record", "lm", _set("hydra", lambda w: {"run": {"dir": f"{w.root}/evil"}}), ("resume", "generate")
    )
    yield Case("defaults in the record", "lm", _set("defaults", lambda w: [f"file://{w.root}"]), ("resume",))
    for path in (
        "https://127.0.0.1:9/x.txt",
        "package://evilpkg.sub/x.txt",
        "package://evilpkg/x.txt",
        "{home}/secret.txt",
    ):
        address = _set("data.path", lambda w, path=path: path.format(home=w.home))
        yield Case(f"data.path is {path}", "lm", address, ("evaluate itself", "resume itself"))
        yield Case(f"data.path is {path}, another typed", "lm", address, ("generate", "resume"), works=True)
    yield Case(
        "cache_dir is elsewhere",
        "lm",
        _set("data.cache_dir", lambda w: f"{w.root}/evil/c"),
        ("evaluate", "resume"),
        works=True,
    )
    yield Case(
        "output_dir is elsewhere", "lm", _set("output_dir", lambda w: f"{w.root}/evil/o"), ("resume",), works=True
    )
    yield Case(
        "a logger's folder is elsewhere", "lm", _set("logger.tensorboard.folder", lambda w: "../../evil"), ("resume",)
    )
    yield Case("a thousand processes", "lm", _set("trainer.devices", lambda w: 1000), ("resume",))
    yield Case("a strategy that imports", "lm", _set("trainer.strategy", lambda w: "deepspeed"), ("resume",))
    for name, value in {
        "command": "x" * 10**6,
        "choices": {"model": "${oc.env:SECRET}"},
        "signature": "0" * 64,
    }.items():
        yield Case(
            f"{name} is odd",
            "lm",
            lambda w, f, n=name, v=value: edit(lambda r: r.update({n: v}))(f),
            ("generate", "export"),
            works=True,
        )
    for name in ("config", "labels", "tokenizer", "references", "choices"):
        yield Case(
            f"{name} is a number",
            "lm",
            lambda w, f, n=name: edit(lambda r: r.update({n: 7}))(f),
            ("generate", "resume"),
            works=None,
        )


def _sizes() -> Iterator[Case]:
    """Yield inputs that would exhaust time or memory."""
    for key, value in {
        "n_layers": 10**9,
        "emb_dim": 10**8,
        "context_length": 10**12,
        "hidden_dim": 10**11,
        "n_heads": 0,
    }.items():
        works = key == "context_length" and None
        yield Case(
            f"model.{key}={value}",
            "lm",
            _set(f"model.{key}", lambda w, v=value: v),
            ("generate", "weights=run"),
            works=works,
        )

    def circle(record: dict[str, Any]) -> None:
        record["config"]["model"]["rope_scaling"] = record["config"]

    def laughs(record: dict[str, Any]) -> None:
        value: Any = ["ha"]
        for _ in range(12):
            value = [value] * 1000
        record["labels"] = {"a": value}

    def deep(record: dict[str, Any]) -> None:
        value: Any = 1
        for _ in range(400):
            value = [value]
        record["config"]["name"] = value

    for name, change in {"a circle": circle, "a billion laughs": laughs, "deep": deep}.items():
        yield Case(f"the record is {name}", "lm", lambda w, f, c=change: edit(c)(f), ("generate", "resume"))
    many = {f"class {i}": 1 for i in range(300_000)}
    yield Case(
        "labels without number", "classifier", lambda w, f: edit(lambda r: r.update(labels=many))(f), ("classify",)
    )
    state = json.dumps({"kind": "bpe", "ranks": {"a": 10**12}, "pattern": "(", "special": {}})
    yield Case("ids of 10**12", "lm", lambda w, f: edit(lambda r: r.update(tokenizer=state))(f), ("generate", "resume"))
    for text in ("[" * 100_000, '{"kind": ' + "9" * 5000 + "}", '{"kind": "pretrained", "tokenizer_json": "{}"}'):
        yield Case(
            f"the tokenizer is {text[:12]}",
            "lm",
            lambda w, f, t=text: edit(lambda r: r.update(tokenizer=t))(f),
            ("generate",),
        )

    def huge(content: dict[str, Any]) -> None:
        content["state_dict"] = {n: torch.zeros(1).expand(10**9, 10**5) for n in content["state_dict"]}

    yield Case("tensors that repeat one number", "lm", lambda w, f: edit_content(huge)(f), ("generate", "weights=run"))
    yield Case(
        "a pickle that allocates",
        "lm",
        lambda w, f: _pickle(f, b"cbuiltins\nbytearray\n", 10**11),
        ("generate", "evaluate"),
    )
    yield Case("a pickle that runs", "lm", lambda w, f: _pickle(f, b"cposix\nsystem\n", 1), ("generate", "resume"))
    yield Case("a packed checkpoint", "lm", lambda w, f: _packed(f), ("generate",))


def _pickle(folder: Path, function: bytes, argument: int) -> None:
    """A checkpoint whose pickle calls a function."""
    number = argument.to_bytes(8, "little", signed=True)
    pickle = b"\x80\x02}" + b"X\x01\x00\x00\x00a" + function + b"\x8a\x08" + number + b"\x85Rs."
    for path in (folder / "checkpoints").glob("*.ckpt"):
        path.with_name(path.name + ".sha256").unlink(missing_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in {"data.pkl": pickle, "byteorder": b"little", "version": b"3\n"}.items():
                archive.writestr(f"archive/{name}", text)


def _packed(folder: Path) -> None:
    """A checkpoint of a few kB that unpacks to gigabytes."""
    for path in (folder / "checkpoints").glob("*.ckpt"):
        path.with_name(path.name + ".sha256").unlink(missing_ok=True)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02}." + b"\0" * (64 << 20))


def _folders() -> Iterator[Case]:
    """Yield hostile files beside the checkpoints of a run folder."""
    hydra = {
        "callbacks": {"callbacks": {"a": {"_target_": "os.mkdir", "path": "/tmp/gptlab-evil"}}},
        "logging": {"job_logging": {"handlers": {"a": {"()": "os.mkdir", "path": "/tmp/gptlab-evil"}}}},
        "run.dir": {"run": {"dir": "/tmp/gptlab-evil"}},
        "searchpath": {"searchpath": ["pkg://evilpkg"]},
    }
    for name, node in hydra.items():
        yield Case(
            f"hydra.{name} in .hydra", "lm", lambda w, f, n=node: _hydra(f, n), ("resume", "generate"), works=True
        )
    for name in ("checkpoints/evil", "tensorboard", "evaluation", "train.log"):
        yield Case(f"{name} leads out", "lm", lambda w, f, n=name: _link(w, f / n), ("resume",))
    yield Case("evaluation leads out of it", "lm", lambda w, f: _link(w, f / "evaluation"), ("evaluate",), works=True)
    yield Case("a link where a report is written", "lm", _planted, ("evaluate",), works=True)
    for name, text in {
        "a list": "[1]",
        "deep": "[" * 10**5,
        "texts": '{"val": "x", "best": [1], "steps": "y", "status": 3}',
    }.items():
        yield Case(
            f"summary.json is {name}",
            "lm",
            lambda w, f, t=text: (f / "summary.json").write_text(t),
            ("export", "resume"),
            works=True,
        )
    yield Case("summary.json is a pipe", "lm", lambda w, f: _pipe(f / "summary.json"), ("export",), works=True)
    yield Case(
        "the checksum is a pipe", "lm", lambda w, f: _pipe(f / "checkpoints" / "best.ckpt.sha256"), ("generate",)
    )
    yield Case(
        "a checkpoint is a pipe",
        "lm",
        lambda w, f: _pipe(f / "checkpoints" / "last.ckpt"),
        ("resume", "generate"),
        works=None,
    )
    yield Case(
        "a flipped bit",
        "lm",
        lambda w, f: _flip(f),
        ("generate", "evaluate", "export", "compare", "weights=run", "resume"),
    )
    yield Case("a flipped bit", "classifier", lambda w, f: _flip(f), ("classify",))


def _hydra(folder: Path, node: dict[str, Any]) -> None:
    for place in (".hydra", ".hydra/resume_1"):
        (folder / place).mkdir(exist_ok=True)
        (folder / place / "config.yaml").write_text(json.dumps({"hydra": node, "defaults": ["evil"]}), encoding="utf-8")
        (folder / place / "hydra.yaml").write_text(json.dumps({"hydra": node}), encoding="utf-8")
        (folder / place / "overrides.yaml").write_text(json.dumps(["hydra.run.dir=/tmp/gptlab-evil"]), encoding="utf-8")


def _link(world: World, path: Path) -> None:
    """Make a link to a file of the user's."""
    if path.is_dir():
        path.rename(path.with_name(f"{path.name}-moved"))
    path.unlink(missing_ok=True)
    path.symlink_to(world.root / "evil")


def _planted(world: World, folder: Path) -> None:
    """A link under the name that the report has while this process writes it."""
    assert world.process is not None
    (folder / "evaluation").mkdir(exist_ok=True)
    part = f".text-{world.text.stem}-val.json.{world.process.pid}.part"
    (folder / "evaluation" / part).symlink_to(world.root / "evil" / "planted")


def _pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _flip(folder: Path) -> None:
    for path in (folder / "checkpoints").glob("*.ckpt"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def _bases() -> Iterator[Case]:
    """Yield hostile records of an adapter's base weights."""

    def base(**values: Any) -> Callable[[World, Path], object]:
        def change(world: World, folder: Path) -> None:
            found = {k: v.format(home=world.home, run=folder) if isinstance(v, str) else v for k, v in values.items()}
            edit(lambda record: record["base"].update(found))(folder)
            shutil.rmtree(folder / "base")  # where a stranger's base has to lie

        return change

    for path in ("{home}/secret.txt", "{home}", "/dev/zero", "{run}", "{run}/checkpoints/best.ckpt", "\0", "evil/evil"):
        yield Case(f"its base is {path!r}", "lora", base(path=path), ("generate", "export"))
    yield Case(
        "its base is on the hub",
        "lora",
        base(path="/nowhere", hub=["evil/evil", "main"]),
        ("generate", "evaluate", "resume"),
    )
    for name, value in {"sha256": [], "seen": "x", "hub": 3, "path": 7}.items():
        yield Case(f"its base's {name} is {value!r}", "lora", base(**{name: value}), ("generate",))
    for value in (None, 7, {}, [1]):
        yield Case(
            f"its base is {value!r}", "lora", lambda w, f, v=value: edit(lambda r: r.update(base=v))(f), ("generate",)
        )
    opening = ("generate", "export", "resume", "weights=run")
    for value in ("x", [1], None, 10**400):
        alpha = _config(lambda w, config, v=value: config["tuning"].update(alpha=v))
        yield Case(f"an adapter's alpha is {str(value)[:5]}", "lora", alpha, opening)
    for key in ("model.norm_eps", "model.rope_base", "sampling.temperature"):
        yield Case(f"{key} is no float", "lm", _config(lambda w, c, k=key: _put(c, k, 10**400)), ("generate",))
    large = _config(lambda w, c: _put(c, "model.rope_base", 10**400))
    yield Case("model.rope_base is no float", "lm", large, ("weights=run",))
    for value in ([1], {"_target_": "os.mkdir", "path": "/tmp/gptlab-evil"}):
        tuning = _config(lambda w, config, v=value: config.update(tuning=v))
        yield Case(f"an adapter's tuning is {value!r:.20}", "lora", tuning, opening)
    for name, tensor in {"missing": None, "of another shape": torch.zeros(3, 3)}.items():
        yield Case(f"an adapter's lora_b is {name}", "lora", _lora_b(tensor), opening)
    yield Case(
        "a preference run's base is on the hub",
        "preference",
        base(path="/nowhere", hub=["evil/evil", "main"]),
        ("resume",),
    )


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    group, _, name = key.partition(".")
    config[group][name] = value


def _lora_b(tensor: torch.Tensor | None) -> Callable[[World, Path], object]:
    def change(content: dict[str, Any]) -> None:
        name = next(name for name in content["state_dict"] if name.endswith("lora_b"))
        content["state_dict"].pop(name)
        if tensor is not None:
            content["state_dict"][name] = tensor

    return lambda w, f: edit_content(change)(f)


def _training_states() -> Iterator[Case]:
    """Yield hostile training states of a resumed run."""

    def state(change: Callable[[dict[str, Any]], object]) -> Callable[[World, Path], object]:
        return lambda w, f: edit_content(lambda content: change(content) if "optimizer_states" in content else None)(f)

    def groups(content: dict[str, Any]) -> None:
        for group in content["optimizer_states"][0]["param_groups"]:
            group |= {"ns_steps": 10**9, "lr": 1e30, "kind": "muon"}

    def moments(content: dict[str, Any]) -> None:
        for number, parts in content["optimizer_states"][0]["state"].items():
            content["optimizer_states"][0]["state"][number] = {name: torch.zeros(3, 3, 3) for name in parts}

    def counters(content: dict[str, Any]) -> None:
        content["loops"]["fit_loop"]["epoch_loop.batch_progress"] = {"total": 10**30, "current": "x"}

    def callbacks(content: dict[str, Any]) -> None:
        content["callbacks"] = {name: {"metrics": 3, "step": [], "tokens": "x"} for name in content["callbacks"]}

    yield Case("the optimizer's settings are absurd", "lm", state(groups), ("resume",), works=True)
    yield Case("the optimizer's moments have other shapes", "lm", state(moments), ("resume",))
    yield Case("the optimizer's state is a number", "lm", state(lambda c: c.update(optimizer_states=[7])), ("resume",))
    yield Case("the loops' counters are absurd", "lm", state(counters), ("resume",))
    yield Case("the callbacks' states are of other types", "lm", state(callbacks), ("resume",))
    yield Case(
        "the schedule has other attributes",
        "lm",
        state(lambda c: c.update(lr_schedulers=[{"step": 3, "optimizer": "x"}])),
        ("resume",),
        works=True,
    )
    yield Case("the steps are a text", "lm", state(lambda c: c.update(global_step="x")), ("resume",))
    yield Case("the data's state is a list", "lm", state(lambda c: c.update(RunDataModule=[])), ("resume",))


def _published() -> Iterator[Case]:
    """Yield hostile published model folders."""
    for template in (
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 9**(9**9) }}",
        "{{ 'x' * 20000000000 }}",
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.environ }}",
        "{% include '/etc/passwd' %}",
        "{" * 100_000,
    ):
        change = lambda w, f, t=template: (f / "chat_template.jinja").write_text(t)  # noqa: E731
        yield Case(f"a template {template[:30]}", "chat", change, ("chat",))
    for key, value in {
        "hidden_size": "x",
        "num_hidden_layers": 10**9,
        "vocab_size": 10**12,
        "rope_theta": [],
        "rope_scaling": [1],
        "auto_map": {"AutoModelForCausalLM": "evilpkg.X"},
        "head_dim": -1,
        "model_type": {},
    }.items():
        works = None if key in ("auto_map", "rope_theta") else False
        yield Case(
            f"config.json: {key}",
            "chat",
            lambda w, f, k=key, v=value: _json(f / "config.json", {k: v}),
            ("generate", "weights=hf"),
            works=works,
        )
    for name in ("config.json", "tokenizer.json", "model.safetensors", "tokenizer_config.json"):
        yield Case(f"{name} is a pipe", "chat", lambda w, f, n=name: _pipe(f / n), ("generate",), works=None)
        yield Case(
            f"{name} is cut", "chat", lambda w, f, n=name: (f / n).write_bytes((f / n).read_bytes()[:50]), ("generate",)
        )
    header = (10**15).to_bytes(8, "little") + b"{}"
    yield Case(
        "a safetensors header of a petabyte",
        "chat",
        lambda w, f: (f / "model.safetensors").write_bytes(header),
        ("generate",),
    )
    yield Case(
        "tokenizer.json is deep",
        "chat",
        lambda w, f: (f / "tokenizer.json").write_text("[" * 10**6),
        ("generate", "weights=hf"),
    )


def _json(path: Path, change: dict[str, Any]) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}), encoding="utf-8")


def _files() -> Iterator[Case]:
    """Yield hostile data files that the user names."""
    for name, write in {
        "a pipe": lambda f: _pipe(f / "x.txt"),
        "a link to a device": lambda f: (f / "x.txt").symlink_to("/dev/zero"),
        "no UTF-8": lambda f: (f / "x.txt").write_bytes(b"\xff" * 1000),
    }.items():
        yield Case(f"data is {name}", "published", lambda w, f, c=write: c(f), ("data",))
    yield Case("a gzip of zeros", "published", lambda w, f: _bomb(f), ("bomb.gz",))
    yield Case("a zip of zeros", "published", lambda w, f: _zip(f), ("bomb.zip",))
    yield Case("a zip that climbs", "published", lambda w, f: _zip(f, "../../evil/x.txt"), ("climb.zip",), works=None)


def _bomb(folder: Path) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = b"\n" * (1 << 20)
    (folder / "x.txt.gz").write_bytes(b"".join(packer.compress(zeros) for _ in range(100)) + packer.flush())


def _zip(folder: Path, name: str = "x.txt") -> None:
    """100 MB of line breaks in 100 kB."""
    text = io.BytesIO()
    with zipfile.ZipFile(text, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, b"\n" * ((100 << 20) if name == "x.txt" else 10_000))
    (folder / "x.zip").write_bytes(text.getvalue())

"""Hints for keys, choices and forms of other programs: each answer says what to write here."""

import re
from collections.abc import Container, Sequence
from functools import cache

from gptlab.config.manual.yaml_pages import keys_of
from gptlab.errors import nearest
from gptlab.storage.places import conf_dir

OUR_KEYS = {  # the word elsewhere (or the last part of our own key) -> our key
    **dict.fromkeys(("lr", "learning_rate", "max_lr", "learningrate"), "optim.lr"),
    **dict.fromkeys(("weight_decay", "wd"), "optim.weight_decay"),
    **dict.fromkeys(("optimizer", "optimiser", "optim"), "optim"),
    **dict.fromkeys(("scheduler", "lr_scheduler", "lr_scheduler_type"), "schedule"),
    **dict.fromkeys(("warmup", "warmup_steps", "warmup_iters"), "schedule.warmup_steps"),
    **dict.fromkeys(("epochs", "n_epochs", "num_epochs", "max_epochs", "num_train_epochs"), "trainer.max_epochs"),
    **dict.fromkeys(("steps", "max_steps", "n_steps", "num_steps", "iters", "max_iters"), "trainer.max_steps"),
    **dict.fromkeys(("devices", "gpus", "n_gpus", "num_gpus", "nproc_per_node"), "trainer.devices"),
    **dict.fromkeys(("num_nodes", "nnodes", "nodes"), "trainer.num_nodes"),
    **dict.fromkeys(("accelerator", "device"), "trainer.accelerator"),
    **dict.fromkeys(("precision", "dtype", "fp16", "bf16"), "trainer.precision"),
    **dict.fromkeys(
        ("accumulate_grad_batches", "gradient_accumulation_steps", "grad_accum"), "trainer.accumulate_grad_batches"
    ),
    **dict.fromkeys(("gradient_clip_val", "grad_clip", "max_grad_norm", "clip"), "trainer.gradient_clip_val"),
    **dict.fromkeys(("val_check_interval", "eval_interval", "eval_steps"), "trainer.val_check_interval"),
    **dict.fromkeys(
        ("save_steps", "save_every", "checkpoint_interval"), "callbacks.last_checkpoint.every_n_train_steps"
    ),
    **dict.fromkeys(("batch_size", "bs", "micro_batch_size", "per_device_train_batch_size"), "data.batch_size"),
    **dict.fromkeys(
        ("path", "data_path", "dataset", "dataset_path", "train_file", "file", "input", "text_file"), "data.path"
    ),
    **dict.fromkeys(("num_workers", "n_workers", "workers"), "data.n_workers"),
    **dict.fromkeys(("val_fraction", "val_split", "validation_split"), "data.val_fraction"),
    **dict.fromkeys(
        ("context_length", "block_size", "seq_len", "seq_length", "max_seq_len", "max_length", "n_ctx", "context"),
        "model.context_length",
    ),
    **dict.fromkeys(("n_layers", "n_layer", "num_layers", "layers", "depth", "num_hidden_layers"), "model.n_layers"),
    **dict.fromkeys(("n_heads", "n_head", "num_heads", "heads", "num_attention_heads"), "model.n_heads"),
    **dict.fromkeys(("emb_dim", "n_embd", "d_model", "hidden_size", "width"), "model.emb_dim"),
    **dict.fromkeys(("drop_rate", "dropout"), "model.drop_rate"),
    "vocab_size": "tokenizer.vocab_size",
    **dict.fromkeys(("temperature", "temp"), "sampling.temperature"),
    **dict.fromkeys(("max_new_tokens", "max_tokens", "max_gen_len", "num_tokens"), "sampling.max_new_tokens"),
    **{name: f"sampling.{name}" for name in ("top_k", "top_p", "min_p", "repetition_penalty", "stop")},
    **dict.fromkeys(("n", "num_samples", "num_return_sequences"), "n_samples"),
    **dict.fromkeys(("ckpt", "checkpoint", "ckpt_path", "model_path", "model_dir"), "run"),
    **dict.fromkeys(("out", "out_dir", "output", "outdir", "run_dir", "save_dir"), "output_dir"),
    **dict.fromkeys(("resume_from", "resume_from_checkpoint", "ckpt"), "resume"),
    **dict.fromkeys(
        ("init_from", "pretrained", "pretrained_model", "model_name", "model_name_or_path"), "weights.path"
    ),
    **dict.fromkeys(("wandb", "mlflow", "tensorboard", "report_to"), "logger"),
    **dict.fromkeys(("lora", "peft", "use_lora"), "tuning"),
    **dict.fromkeys(("run_name", "experiment_name", "exp_name"), "name"),
    **dict.fromkeys(("random_seed", "random_state"), "seed"),
}
HYDRAS_GROUPS = ("hydra/launcher", "hydra/sweeper")  # each has Hydra's own choice, `basic`, beside those in conf
OTHER_PLUGINS = {  # published plugins and other words for them -> what there is here
    **{("hydra/sweeper", name): "sweep=search" for name in ("optuna", "ax", "nevergrad", "bayes", "tpe", "random")},
    **{
        ("hydra/launcher", name): "hydra/launcher=joblib"
        for name in ("local", "loky", "multiprocessing", "parallel", "process", "processes", "subprocess")
    },
    **{("hydra/launcher", name): "hydra/launcher=submitit_slurm" for name in ("slurm", "sbatch", "submitit")},
}
NAMED_CHOICES = {"logger", "tuning"}  # the word itself is the choice: wandb=true means logger=wandb
LISTS = ("path", "test_path", "run", "stop", "prompts", "tasks", "columns", "classes", "clean")  # keys that take lists
KINDS = {".txt": "text", ".md": "text", ".csv": "csv", ".tsv": "csv"}  # the data of a file, by its ending
FILE_ENDINGS = (*KINDS, ".json", ".jsonl", ".gz", ".ckpt")
RECORDS = "data=text, data=jsonl (labelled), data=chat or data=preferences"
TORCH_OPTIMIZERS = (
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "Adamax",
    "ASGD",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
)
TRAINING_ROOTS = ("train", "resume", "data", "plan")  # commands whose configuration is a run's
HYDRA_FLAGS = (
    *("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--resolve", "--package", "-p", "--run", "-r"),
    *("--multirun", "-m", "--shell-completion", "-sc", "--config-path", "-cp", "--config-name", "-cn"),
    *("--config-dir", "-cd", "--experimental-rerun", "--info", "-i"),
)
VALUES_OF_FLAGS = (
    "--cfg",
    "-c",
    "--package",
    "-p",
    "--config-path",
    "-cp",
    "--config-name",
    "-cn",
    "--config-dir",
    "-cd",
)


def answer_unknown_key(key: str, value: str, known: Sequence[str], *, all_keys: str) -> str:
    """Return the sentence for a key that does not exist.

    Args:
        value: as it was typed.
        known: every key there is.
        all_keys: the command that prints them.
    """
    word = key.rpartition(".")[2].lower()
    meant = OUR_KEYS.get(word, "")
    guess = nearest(key, known)
    misspelt = "." in key and meant and guess == nearest(key, [meant])
    if not misspelt and (remedy := _meant(word, value, known)):
        return f"{key} is not a key: write {remedy}"
    return f"{key} is not a key{guess or f': `{all_keys}` prints every key there is'}"


def answer_unknown_choice(group: str, name: str, names: Sequence[str]) -> str:
    """Return the sentence for a choice that its group does not have."""
    if remedy := _other_choice(group, name):
        return f"{group}={name}: there is no such configuration: write {remedy}"
    if group in HYDRAS_GROUPS:
        names = sorted({*names, "basic"})
    return f"{group}={name}: there is no such configuration{nearest(name, names)}; there are {', '.join(names)}"


def answer_several_values(key: str, values: str) -> str:
    """Return the sentence for several values of one key in a single run."""
    listed = f", and {key}='[{values}]' is a list" if key.rpartition(".")[2] in LISTS else ""
    return f"{key}={values}: a run takes one value: -m trains a run for each{listed}"


def answer_foreign_words(words: Sequence[str], *, root: str) -> tuple[list[str], list[str]]:
    """Return a sentence for each word in another program's form, and the other words.

    Args:
        words: as typed; Hydra's own flags are left out.
        root: the configuration that they change, such as train.
    """
    left, sentences, ours = list(words), [], []
    while left:
        word = left.pop(0)
        if word.split("=")[0] in HYDRA_FLAGS:
            if word in VALUES_OF_FLAGS and left:
                left.pop(0)
        elif sentence := _answer_word(word, left, root):
            sentences.append(sentence)
        else:
            ours.append(word)
    return sentences, ours


def _answer_word(word: str, left: list[str], root: str) -> str | None:
    """Return the sentence for a word in another program's form, None for one of ours.

    Args:
        left: the words after it; those that belong to it are removed.
    """
    following = left[0] if left else ""
    if re.match(r"-+[A-Za-z]", word):
        name, sign, value = word.lstrip("-").partition("=")
        if not sign and left and _is_value(following):
            value = left.pop(0)
            word = f"{word} {value}"
        remedy = _written(name.replace("-", "_"), value or "VALUE", own=_own_keys(root))
        return f"{word!r} cannot be read: keys have no dashes: write {remedy}"
    if left and (following == "=" or re.fullmatch(r"[\w./]+=", word)) and _is_value(following, "="):
        n_others = 2 if following == "=" else 1
        parts = [word, *left[:n_others]]
        del left[:n_others]
        return f"{' '.join(parts)!r} cannot be read: leave out the blanks: write {''.join(parts)}"
    if left and "=" not in word and _is_key(word) and _is_value(following):
        value = left.pop(0)
        return f"'{word} {value}' cannot be read: write {_written(word, value, own=_own_keys(root))}"
    if re.fullmatch(r"(~/)?[\w-]*[./][\w./-]*", word):
        remedy = _as_data(word) if root in TRAINING_ROOTS else f"run={word}"
        return f"{word!r} cannot be read: write key=value, such as {remedy}"
    return None


def _is_key(word: str) -> bool:
    """Return whether a word looks like a key, and not like a file."""
    return re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", word) is not None and not word.endswith(FILE_ENDINGS)


def _is_value(word: str, also: str = "") -> bool:
    """Return whether a word can be the value of the word before it."""
    return word == also or ("=" not in word and re.match(r"--?[A-Za-z]|~[^/]", word) is None)


@cache
def _own_keys(root: str) -> frozenset[str]:
    """Return the keys of a command outside its groups."""
    return frozenset(keys_of(conf_dir() / f"{root}.yaml"))


def _written(typed: str, value: str, *, own: Container[str] = ()) -> str:
    """Return the override that a key of another program means.

    Args:
        own: keys that mean themselves.
    """
    key = typed if typed in own else OUR_KEYS.get(typed.lower(), typed)
    return f"{key}={typed.lower() if key in NAMED_CHOICES and key != typed.lower() else value}"


def _meant(word: str, value: str, known: Container[str]) -> str | None:
    """Return what to write for a word that stands for another key."""
    key = OUR_KEYS.get(word)
    if key is None:
        return None
    if key == "weights.path":
        return f"weights=hf weights.path={value}"
    if key == "data.path" and key not in known:
        return _as_data(value) if "data" in known else f"file={value}" if "file" in known else None
    if key == "output_dir" and "to" in known:
        return f"to={value}"
    return (_other_choice(key, value) or _written(word, value)) if key in known else None


def _as_data(path: str) -> str:
    """Return the words that read a file."""
    ending = re.search(r"\.\w+$", path.removesuffix(".gz"))
    kind = KINDS.get(ending[0] if ending else "", "text")
    if ending and ending[0] in (".json", ".jsonl"):
        return f"{RECORDS}, with data.path={path}"
    return f"data={kind} data.path={path}"


def _other_choice(group: str, name: str) -> str | None:
    """Return what to write for a choice that belongs elsewhere."""
    if group in HYDRAS_GROUPS:
        return OTHER_PLUGINS.get((group, name.lower()))
    is_path = re.search(r"[/\\.~]", name) is not None
    if group == "data" and is_path:
        return _as_data(name)
    if group in ("model", "weights") and is_path:
        return f"weights=run weights.run={name} for a run of your own, or weights=hf weights.path={name}"
    if group == "model" and name.lower() in ("gpt2", "gpt-2"):
        return "model=gpt2_small for its architecture, weights=gpt2 for its weights too"
    if group == "data/reader" and name in ("json", "jsonl", "csv", "tsv", "txt"):
        return f"data.path=FILE.{name}: a reader takes a file's format from its ending"
    if group == "optim" and (torch_name := {n.lower(): n for n in TORCH_OPTIMIZERS}.get(name.lower())):
        return f"optim=torch optim.name={torch_name}"
    if group == "head" and name.lower() in ("chat", "assistant", "sft"):
        return "head=instruction"
    if group == "head" and name.lower() in ("dpo", "rlhf"):
        return "head=preference"
    return None

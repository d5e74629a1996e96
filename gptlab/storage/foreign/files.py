"""Files that other programs write, or that hold no weights at all.

The first row that matches counts.
"""

import re
from pathlib import Path

from gptlab.storage.foreign.glimpse import Glimpse
from gptlab.storage.foreign.kind import HERE, Kind, begins, ends, has, has_name, is_run

N_AROUND = 3  # folders around a file that may be its run's
TRANSFORMERS = "AutoModelForCausalLM.from_pretrained"

BROKEN = (  # no weights at all, also under the name of weights
    Kind(
        "lfs pointer",
        begins(b"version https://git-lfs.github.com/spec/"),
        "is a pointer of Git LFS and not the file itself: fetch the file with `git lfs pull` in {folder}",
    ),
    Kind(
        "web page",
        begins(b"<!doctype html", b"<html", b"<?xml"),
        "is a web page and not the file that was to be downloaded: download it from its own address, which on the hub "
        "has /resolve/ in it and not /blob/, after the login that the page may ask for",
    ),
    Kind(
        "server's error",
        begins(b'{"error"', b"Entry not found", b"Access to model", b"Invalid ", b"Repository not found"),
        lambda seen: (
            f"is a server's answer, {seen.first_bytes[:60].decode(errors='replace')!r}, and not the file that was to "
            "be downloaded: download it again, after accepting the model's terms and `hf auth login` if it needs them"
        ),
    ),
    Kind("empty", lambda seen: seen.size == 0, "is empty: copy or download it again"),
    Kind(
        "unfinished download",
        ends(".part", ".crdownload", ".incomplete", ".aria2"),
        "is an unfinished download: let it finish, or download it again",
    ),
)

BOOK = r"(_orig_mod\.)?trf_blocks\.\d+\.att\.W_query\.weight"
OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # the magic number before each file
ARCHIVES = (b"\x1f\x8b", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"Rar!", b"BZh")

FILES = (
    Kind(
        "gguf",
        begins(b"GGUF"),
        f"is a GGUF file, as llama.cpp and Ollama use, and {HERE}: write it as a folder with transformers and the "
        f"package gguf, {TRANSFORMERS}('{{folder}}', gguf_file='{{name}}').save_pretrained('NEW'), likewise "
        "AutoTokenizer, and give NEW",
    ),
    Kind(
        "ggml",
        begins(b"lmgg", b"fmgg", b"tjgg", b"algg"),
        f"is a GGML file of an early llama.cpp, and {HERE}: take the model's folder in the format of transformers",
    ),
    Kind(
        "book",
        has_name(BOOK),
        "holds the weights of a model of the book (`Build a Large Language Model (From Scratch)`), saved with "
        f"torch.save, and {HERE} yet: open it with the book's code, or train the same model here with python train.py "
        "experiment=pretrain_verdict",
    ),
    Kind(
        "llama2.c",
        has("model_args", "tok_embeddings.weight"),
        f"is a checkpoint of llama2.c, and {HERE}: write it as a folder with llama2.c, python export.py NEW --version "
        "-1 --checkpoint {path}, and give NEW",
    ),
    Kind(
        "nanogpt",
        has("model_args", "iter_num"),
        f"is a checkpoint of nanoGPT, and {HERE} yet: sample from it with nanoGPT, python sample.py "
        "--out_dir={folder}, or train the same model here with python train.py experiment=shakespeare_char_cpu",
    ),
    Kind(
        "nanochat",
        has_name(r"(_orig_mod\.)?transformer\.h\.\d+\.attn\.c_q\.weight"),
        f"holds the weights of a nanochat model, and {HERE}, because gptlab lacks parts of that model: chat with it "
        "with nanochat, python -m scripts.chat_cli",
    ),
    Kind(
        "litgpt",
        has_name(r"transformer\.h\.\d+\.attn\.(qkv|attn)\.weight"),
        f"holds the weights of a LitGPT model, and {HERE}: write them under transformers' names with litgpt "
        "convert_from_litgpt {folder} NEW, rename NEW/model.pth to pytorch_model.bin, put the model's config.json and "
        "tokenizer.json beside it, and give NEW",
    ),
    Kind(
        "meta",
        has_name(r"layers\.\d+\.attention\.wq\.weight"),
        f"holds the weights of a model in Meta's format, and {HERE}: take the model's folder in the format of "
        "transformers, with a config.json and model.safetensors",
    ),
    Kind(
        "lightning",
        lambda seen: "pytorch-lightning_version" in seen.words and "gptlab" not in seen.words,
        f"is a checkpoint of another program that uses Lightning, and {HERE}: a gptlab run is a folder that train.py "
        "wrote",
    ),
    Kind(
        "transformers state dict",
        has_name(r"(model\.embed_tokens|(transformer\.)?wte)\.weight"),
        "holds the weights of a transformers model alone: name it pytorch_model.bin, put the model's config.json and "
        "tokenizer.json beside it, and give the folder",
    ),
    Kind(
        "torchscript",
        lambda seen: any(name.endswith("/constants.pkl") for name in seen.members),
        f"is a TorchScript program, and {HERE}: take the model's folder in the format of transformers",
    ),
    Kind(
        "pickled module",
        has_name(r"torch\.nn\.modules\..*"),
        "is a whole model pickled with its classes, which could run code, so it is not opened: in the program that "
        "made it, save the tensors alone, torch.save(model.state_dict(), 'weights.pt')",
    ),
    Kind(
        "old torch",
        begins(OLD_TORCH),
        f"is in the format of torch before 1.6, and {HERE}: write it anew, torch.save(torch.load('{{path}}', "
        "weights_only=True), '{path}')",
    ),
    Kind(
        "pickle",
        lambda seen: re.match(rb"\x80[\x02-\x05]", seen.first_bytes) and not seen.members,
        "is a pickle that could run code, so it is not opened: take the model's safetensors",
    ),
    Kind(
        "hdf5",
        begins(b"\x89HDF"),
        f"holds weights for TensorFlow or Keras, and {HERE}: write them as a folder with transformers 4 and "
        f"tensorflow, {TRANSFORMERS}('{{folder}}', from_tf=True).save_pretrained('NEW'), and give NEW",
    ),
    Kind(
        "flax",
        ends(".msgpack"),
        f"holds weights for Flax, and {HERE}: write them as a folder with transformers 4 and flax, "
        f"{TRANSFORMERS}('{{folder}}', from_flax=True).save_pretrained('NEW'), and give NEW",
    ),
    Kind(
        "numpy",
        lambda seen: (
            seen.first_bytes.startswith(b"\x93NUMPY")
            or (seen.members and all(name.endswith(".npy") for name in seen.members))
        ),
        f"holds arrays of NumPy, and {HERE}: take the model's folder in the format of transformers",
    ),
    Kind(
        "compiled",
        ends(".onnx", ".ort", ".tflite", ".pte", ".engine", ".mlmodel", ".ot", ".llamafile", ".task"),
        f"is a model made ready for another program to run, and {HERE}: take the folder that it was made from, with a "
        "config.json and model.safetensors",
    ),
    Kind(
        "archive",
        lambda seen: (
            seen.first_bytes.startswith(ARCHIVES)
            or seen.first_bytes[257:262] == b"ustar"
            or (seen.members and not any(name.endswith("data.pkl") for name in seen.members))
        ),
        "is an archive: unpack it, and give the folder in it",
    ),
)


def _run_of(seen: Glimpse) -> Path | None:
    """Return the run's folder around a file, for any file but its checkpoints."""
    around = [] if seen.path.suffix == ".ckpt" else seen.path.absolute().parents[:N_AROUND]
    return next((folder for folder in around if is_run(folder)), None)


SINGLE = (  # files that belong into a folder, given alone
    Kind(
        "state of training",
        lambda seen: seen.path.name in ("training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt"),
        "is a state of training of transformers, without weights: give the folder, {folder}",
    ),
    Kind(
        "file of an adapter",
        lambda seen: seen.path.name.startswith("adapter_"),
        "is a file of an adapter of peft: give the folder, {folder}, to learn more",
    ),
    Kind(
        "file of a tokenizer",
        lambda seen: seen.path.name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"),
        "is a file of a tokenizer: give its folder, {folder}",
    ),
    Kind(
        "file of a model folder",
        lambda seen: (
            ends(".safetensors", ".json", ".bin", ".model")(seen) and (seen.path.parent / "config.json").is_file()
        ),
        "is a file of a model folder: give the folder, {folder}",
    ),
    Kind(
        "safetensors",
        ends(".safetensors"),
        "holds tensors alone, without the config.json that says of which model: put it with its config.json and "
        "tokenizer.json into a folder, as model.safetensors, and give the folder",
    ),
    Kind(
        "file of a run",
        _run_of,
        lambda seen: f"is a file of a run: give the run's folder, {_run_of(seen)}",
    ),
    Kind(
        "text",
        lambda seen: seen.first_bytes.isascii() and seen.first_bytes and b"\0" not in seen.first_bytes,
        "is a text and holds no weights: give a run folder, a .ckpt in it, or a folder as transformers writes it",
    ),
)

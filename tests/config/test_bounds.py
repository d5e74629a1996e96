"""Every bounded key reports a value out of bounds."""

from pathlib import Path

import pytest

from gptlab.config.compose import ConfigError, compose_config

FRACTION = "at least 0 and less than 1"
SHARE = "at least 0 and at most 1"
TABLE = {  # overrides to choose first -> key -> a wrong value, and the bound in the message
    "train": {
        "seed": ("-1", "at least 0 and less than 9,223,372,036,854,775,808"),
        "compile": ("sometimes", "auto, true or false"),
        "data.n_workers": ("-1", "at least 0"),
        "data.batch_size": ("0", "at least 1"),
        "data.batch_tokens": ("0", "at least 1"),
        "data.stride": ("0", "at least 1"),
        "data.val_fraction": ("1", "more than 0 and less than 1"),
        "data.split_seed": ("-1", "at least 0"),
        "data.max_expansion": ("0", "more than 0"),
        "model.context_length": ("0", "at least 1"),
        "model.emb_dim": ("0", "at least 1"),
        "model.n_heads": ("0", "at least 1"),
        "model.n_kv_heads": ("0", "at least 1"),
        "model.head_dim": ("0", "at least 1"),
        "model.n_layers": ("0", "at least 1"),
        "model.hidden_dim": ("0", "at least 1"),
        "model.sliding_window": ("0", "at least 1"),
        "model.norm_eps": ("0", "more than 0"),
        "model.rope_base": ("0", "more than 0"),
        "model.drop_rate": ("1", FRACTION),
        "head.loss_chunk_rows": ("0", "at least 1 or auto"),
        "trainer.max_steps": ("0", "at least 1"),
        "trainer.max_epochs": ("0", "at least 1"),
        "trainer.val_check_interval": ("0", "at least 1"),
        "trainer.accumulate_grad_batches": ("0", "at least 1 or auto"),
        "trainer.log_every_n_steps": ("0", "at least 1"),
        "trainer.gradient_clip_val": ("0", "more than 0"),
        "trainer.devices": ("0", "at least 1, one of auto, -1 or a list of at least 1"),
        "trainer.accelerator": ("tpu", "one of auto, cpu, gpu, cuda, mps"),
        "trainer.precision": (
            "fp8",
            "one of auto, 32-true, bf16-mixed, bf16-true, 16-mixed, 16-true, 64-true, tf32",
        ),
        "callbacks.last_checkpoint.every_n_train_steps": ("0", "at least 1"),
        "callbacks.early_stopping.patience": ("0", "at least 1"),
        "callbacks.samples.every_n_validations": ("0", "at least 1"),
        "callbacks.samples.held_out_tokens": ("-1", "at least 0"),
        "callbacks.attention_maps.every_n_validations": ("0", "at least 1"),
        "callbacks.attention_maps.n_tokens": ("0", "at least 1"),
        "optim.lr": ("0", "more than 0"),
        "optim.eps": ("0", "more than 0"),
        "optim.emb_lr": ("0", "more than 0"),
        "optim.head_lr": ("0", "more than 0"),
        "optim.vector_lr": ("0", "more than 0"),
        "optim.momentum": ("1", FRACTION),
        "optim.momentum_start": ("1", FRACTION),
        "optim.momentum_warmup_steps": ("-1", "at least 0"),
        "optim.ns_steps": ("0", "at least 1"),
        "optim.weight_decay": ("-1", "at least 0"),
        "optim.betas": ("[0.9,1]", f"a list of 2, each item {FRACTION}"),
        "schedule.warmup_steps": ("-1", "at least 0"),
        "schedule.start_factor": ("2", SHARE),
        "schedule.end_factor": ("2", SHARE),
        "sampling.temperature": ("-1", "at least 0"),
    },
    "train schedule=wsd": {"schedule.decay_fraction": ("2", SHARE)},
    "train optim=adamw": {
        "optim.lr": ("0", "more than 0"),
        "optim.betas": ("[]", f"a list of 2, each item {FRACTION}"),
    },
    "train tuning=last_block": {"tuning.n_blocks": ("0", "at least 1")},
    "train weights=gpt2 tuning=lora": {
        "tuning.rank": ("0", "at least 1"),
        "tuning.alpha": ("0", "more than 0"),
        "tuning.drop_rate": ("1", FRACTION),
        "tuning.target_modules": ("[]", "a list of at least 1 or all"),
    },
    "train head=classifier data=testament": {
        "head.drop_rate": ("1", FRACTION),
        "head.lm_loss_weight": ("-1", "at least 0"),
        "data.test_fraction": ("1", FRACTION),
        "data.pad_to": ("0", "at least 1"),
    },
    "train head=preference data=preference data.path=a weights=gpt2": {"head.beta": ("0", "more than 0")},
    "data": {"n_windows": ("0", "at least 1"), "output": ("xml", "one of text, json")},
    "generate run=a": {"n_samples": ("0", "at least 1"), "precision": ("fp8", "one of auto, 32-true")},
    "classify run=a": {"batch_tokens": ("0", "at least 1"), "output": ("xml", "one of text, json")},
    "evaluate run=a judge=openai judge.model=b": {
        "n_questions": ("-1", "at least 0"),
        "n_answers": ("-1", "at least 0"),
        "context_length": ("0", "at least 1"),
        "stride": ("0", "at least 1"),
        "limit": ("0", "at least 1"),
        "split": ("valid", "one of train, val, test, all"),
        "device": ("tpu", "auto, cpu, cuda or mps, cuda:1 for the second one"),
        "judge.timeout": ("0", "more than 0"),
    },
    "export run=a to=b": {"shard_gb": ("0", "more than 0")},
}
ROWS = [(command, key, *wrong) for command, keys in TABLE.items() for key, wrong in keys.items()]


@pytest.mark.parametrize(("command", "key", "value", "sentence"), ROWS, ids=lambda part: part.split(" and ")[0])
def test_a_value_out_of_bounds_is_reported_once(command: str, key: str, value: str, sentence: str) -> None:
    root, *overrides = command.split()
    with pytest.raises(ConfigError) as caught:
        compose_config(root, [*overrides, f"{key}={value}"])
    (line,) = [line for line in str(caught.value).splitlines() if line.startswith(f"{key} is ")]
    assert f": it must be {sentence}" in line


def test_a_part_in_a_single_file_is_checked_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bounds hold, and an annotation that is more than a literal is not evaluated."""
    (tmp_path / "my_optim.py").write_text(
        "from typing import Annotated\nfrom gptlab.bounds import AtLeast\n"
        f"class M:\n    def __init__(self, parameters, *, n: Annotated[int, AtLeast(3)],"
        f" m: Annotated[int, AtLeast(open({str(tmp_path / 'ran')!r}, 'w'))]): ...\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("GPTLAB_TRUST", "my_optim")
    with pytest.raises(ConfigError) as refused:
        compose_config("train", ["optim._target_=my_optim.M", "+optim.n=1", "+optim.m=1"])
    assert "optim.n is 1: it must be at least 3" in str(refused.value)
    assert "optim.betas is not a key" in str(refused.value) or "optim.momentum is not a key" in str(refused.value)
    assert not (tmp_path / "ran").exists()

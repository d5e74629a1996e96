"""A chat model's folder in miniature: a random Llama, a tokenizer with marks of turns, a template."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.weights.export.folder import export_weights
from tests.support.tiny_models import LLAMA, tiny_gpt

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHATML = """\
{% for message in messages %}
{% if loop.first and message['role'] != 'system' %}<|im_start|>system
You help.<|im_end|>
{% endif %}
<|im_start|>{{ message['role'] }}
{% if message['role'] == 'assistant' %}
{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}

{% else %}
{{ message['content'] }}<|im_end|>
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
"""


def write_tokenizer(folder: Path, template: str | None) -> Path:
    """tokenizer.json and tokenizer_config.json."""
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    learned = ["You help people who ask assistant and user questions, and you answer them. " * 5]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    library.train_from_iterator(learned, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    library.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    config |= {} if template is None else {"chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def write_model(folder: Path, template: str | None) -> Path:
    """Write the same, and a model of 300 ids."""
    write_tokenizer(folder, template)
    model = tiny_gpt(vocab_size=300, context_length=64, **LLAMA)
    head = LMHead(model, HeadContext(300, None), tied=True, loss_chunk_rows=None)
    export_weights(model, head, folder, bos_id=1, eos_id=2, shard_bytes=10**9)
    return folder

"""The logit lens: the head on each layer, whose last layer is the model's own word."""

import pytest
import torch

from gptlab.batch import Batch
from gptlab.heads.classifier import ClassifierHead
from gptlab.heads.lm import LMHead
from gptlab.heads.protocol import HeadContext
from gptlab.insight.lens import logit_lens, residual_streams
from gptlab.model.gpt import GPT
from tests.support.tiny_models import FAMILIES, tiny_gpt

IDS = torch.randint(50, (3, 20), generator=torch.Generator().manual_seed(1))  # (B, T)


def lm_head(model: GPT) -> LMHead:
    return LMHead(model, HeadContext(vocab_size=model.vocab_size, token_bytes=None), tied=True, loss_chunk_rows="auto")


def classifier(model: GPT, pooling: str = "last") -> ClassifierHead:
    torch.manual_seed(3)
    context = HeadContext(vocab_size=50, token_bytes=None, labels={"ham": 3, "spam": 2, "news": 1})
    head = ClassifierHead(
        model, context, pooling=pooling, class_weights="none", bias=True, drop_rate=0.0, lm_loss_weight=0.0
    )
    torch.nn.init.normal_(head.out.weight)
    return head.eval()


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_last_layer_is_the_models_own_word_to_the_bit(family: str) -> None:
    model = tiny_gpt(**FAMILIES[family])
    head = lm_head(model)
    lens = logit_lens(model, head, IDS)
    assert lens.shape == (3, 3, 20, 50)
    assert torch.equal(lens[-1], head(model(IDS), Batch(ids=IDS)))
    for number, stream in enumerate(residual_streams(model, IDS)):
        assert torch.equal(lens[number], head(model.final_norm(stream), Batch(ids=IDS)))


@torch.no_grad()
def test_a_layer_that_adds_nothing_says_the_same_as_the_one_before() -> None:
    model = tiny_gpt()
    for layer in (model.blocks[1].attention.out, model.blocks[1].ff.out):
        layer.weight.zero_()
        layer.bias.zero_()
    lens = logit_lens(model, lm_head(model), IDS)
    torch.testing.assert_close(lens[2], lens[1])
    assert not torch.allclose(lens[1], lens[0], atol=1e-2)


@torch.no_grad()
def test_a_classifier_says_a_class_at_each_layer_and_no_mode_is_left_behind() -> None:
    model = tiny_gpt(drop_rate=0.5).train()
    head = classifier(model)
    lens = logit_lens(model, head, IDS)
    assert lens.shape == (3, 3, 3)
    assert model.training
    batch = Batch(ids=IDS, lengths=torch.full((3,), 20))
    assert torch.equal(lens[-1], head(model.eval()(IDS), batch))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())

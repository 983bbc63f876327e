"""Laws of the head that works in full fp32: the model goes on as before, before, in and after."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from raysubset.errors import ModelError
from raysubset.learn.full_head import FullHead
from raysubset.learn.head import Head, find_head, head_weight

SAMPLE = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


def small(*, bias: bool = True, ending: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(1)
    layers = [nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3, bias=bias)]
    return nn.Sequential(*layers, *([ending] if ending else [])).eval()


class Softened(nn.Module):
    """Changes what the head gave, in place."""

    def forward(self, logits_BC: Tensor) -> Tensor:
        return logits_BC.div_(4)


@pytest.mark.parametrize("bias", [True, False])
def test_the_logits_are_the_kept_embedding_times_the_heads_weight(bias: bool):
    model = small(bias=bias)
    head, alone = find_head(model, SAMPLE), model(SAMPLE).detach()
    with FullHead(model, head) as full:
        given = model(SAMPLE)
    weight_CH, bias_C = head_weight(model, head)
    assert torch.equal(full.logits_BC, full.embedding_BH @ weight_CH.T + bias_C)
    assert torch.equal(given, full.logits_BC)
    torch.testing.assert_close(given, alone)  # float32 rounding of one product
    assert not (full.embedding_BH.requires_grad or full.logits_BC.requires_grad)
    assert not (bias_C.requires_grad or (not bias and bias_C.any()))


def test_under_autocast_the_product_is_fp32_and_is_taken_once():
    model = small()
    products: list[torch.dtype] = []
    model[2].register_forward_hook(lambda _, __, out: products.append(out.dtype))
    with (
        FullHead(model, Head(name="2", in_features=7, num_classes=3)) as full,
        torch.autocast("cpu", dtype=torch.bfloat16),
    ):
        model(SAMPLE)
    weight_CH, bias_C = model[2].weight, model[2].bias
    assert torch.equal(full.logits_BC, (full.embedding_BH @ weight_CH.T + bias_C).detach())
    assert products == [torch.float32]
    assert torch.equal(full.embedding_BH.bfloat16().float(), full.embedding_BH)  # a 16-bit backbone


def test_what_a_model_does_to_its_output_does_not_reach_the_logits():
    model = small(ending=Softened())
    head = Head(name="2", in_features=7, num_classes=3)
    with FullHead(model, head) as full:
        given = model(SAMPLE)
    torch.testing.assert_close(given * 4, full.logits_BC)


def test_after_the_block_the_head_is_the_models_own_even_after_an_error():
    model = small()
    head = find_head(model, SAMPLE)
    before = model(SAMPLE)
    with pytest.raises(RuntimeError, match="mat1"), FullHead(model, head):
        model(torch.zeros(2, 9))
    assert "forward" not in vars(model[2])
    assert torch.equal(model(SAMPLE), before)
    model(SAMPLE).sum().backward()
    assert model[2].weight.grad is not None


def test_a_forward_of_a_persons_own_is_put_back():
    model = small()
    model[2].forward = lambda x: torch.zeros(len(x), 3)
    with FullHead(model, Head(name="2", in_features=7, num_classes=3)):
        assert model(SAMPLE).any()
    assert not model(SAMPLE).any()


def test_the_last_forward_is_what_is_kept():
    model = small()
    with FullHead(model, find_head(model, SAMPLE)) as full:
        model(SAMPLE)
        model(SAMPLE[:2])
    assert full.embedding_BH.shape == (2, 7)


def test_without_a_forward_it_says_so():
    model = small()
    full = FullHead(model, find_head(model, SAMPLE))
    with pytest.raises(ModelError, match="no forward has reached the head '2'"):
        _ = full.embedding_BH


def test_an_input_with_more_dimensions_is_refused():
    model = nn.Sequential(nn.Linear(6, 3))
    with (
        FullHead(model, Head(name="0", in_features=6, num_classes=3)),
        pytest.raises(ModelError, match=r"'0' takes an input of shape \(2, 4, 6\), and one vector"),
    ):
        model(torch.zeros(2, 4, 6))

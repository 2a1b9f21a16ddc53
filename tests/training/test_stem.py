"""The first convolution starts from principal components of patches."""

import torch
from torch import nn

from handful_training.stem import NOISE, start_from_patches


def blurred(seed: int = 0) -> torch.Tensor:
    """Images whose neighbouring pixels resemble each other, as real ones do."""
    noise = torch.rand(64, 3, 20, 20, generator=torch.Generator().manual_seed(seed))
    return nn.functional.avg_pool2d(noise, 3, stride=1)


def patches(images: torch.Tensor) -> torch.Tensor:
    return nn.functional.unfold(images, 4, stride=3).transpose(1, 2).flatten(0, 1)


def test_filters_see_uncorrelated_things_equally_strongly() -> None:
    """Their responses to the patches have a diagonal covariance, of equal entries but for noise."""
    images = blurred()
    convolution = nn.Conv2d(3, 64, 4, bias=False)
    start_from_patches(convolution, images)
    responses = patches(images) @ convolution.weight.detach()[:32].flatten(1).T
    covariance = torch.cov(responses.T)
    diagonal = covariance.diagonal()
    assert (covariance - diagonal.diag()).abs().max() < 1e-3 * diagonal.max()
    assert diagonal.min() > 0.5 * diagonal.max()
    assert NOISE < 1e-3


def test_each_has_its_opposite_and_the_rest_stays_random() -> None:
    """With 10 filters the second five mirror the first; with 120, 96 do for 48 components."""
    few, many = nn.Conv2d(3, 10, 4, bias=False), nn.Conv2d(3, 120, 4, bias=False)
    before = many.weight.detach().clone()
    for convolution in (few, many):
        start_from_patches(convolution, blurred())
    torch.testing.assert_close(few.weight[:5], -few.weight[5:])
    torch.testing.assert_close(many.weight[:48], -many.weight[48:96])
    torch.testing.assert_close(many.weight[96:], before[96:])
    assert not torch.equal(many.weight[:96], before[:96])


def test_brightness_and_contrast_change_the_scale_alone() -> None:
    """Paler images give the same filters, larger by the same factor."""
    one, other = nn.Conv2d(3, 32, 4, bias=False), nn.Conv2d(3, 32, 4, bias=False)
    start_from_patches(one, blurred())
    start_from_patches(other, 0.25 * blurred() + 0.5)
    ratio = other.weight[:16].flatten(1).norm(dim=1) / one.weight[:16].flatten(1).norm(dim=1)
    torch.testing.assert_close(ratio, torch.full((16,), 4.0), rtol=1e-2, atol=0)
    cosine = nn.functional.cosine_similarity(one.weight.flatten(1), other.weight.flatten(1))
    assert cosine.abs().min() > 0.99


def test_images_without_contrast_change_nothing() -> None:
    """Black images have no components; the random weights stay, and stay finite."""
    convolution = nn.Conv2d(1, 8, 4, bias=False)
    before = convolution.weight.detach().clone()
    start_from_patches(convolution, torch.zeros(5, 1, 16, 16))
    torch.testing.assert_close(convolution.weight.detach(), before)

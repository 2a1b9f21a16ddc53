"""What the encoder computes an embedding with: one of two families of networks.

Both halve the image, begin with a convolution whose filters can be taken from patches
(`stem.py`), and end in a linear layer, so that an embedding has any number of values.
"""

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from handful_bundle.manifest import ImageSpec
from handful_training.config import EncoderFamily

MAX_CHANNELS = 256
RESIDUAL_MAX_CHANNELS = 512
RESIDUAL_STAGES = 4
LARGEST_STAGE, SMALLEST_STAGE = 64, 4  # short sides that the first and last block may see


def make_features(
    family: EncoderFamily, spec: ImageSpec, width: int, embedding_dim: int
) -> nn.Sequential:
    """Return a network from images [B, C, H, W] in [0, 1] to embeddings [B, E], all >= 0.

    Args:
        family: `convolutional` is fast, `residual` deep.
        spec: size of the images.
        width: channels of the first convolution.
        embedding_dim: E.
    """
    make = {"convolutional": _convolutional, "residual": _residual}[family]
    layers, outputs = make(spec, width)
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(outputs, embedding_dim, bias=False),
        nn.BatchNorm1d(embedding_dim),
        nn.ReLU(),
    )


def first_convolution(features: nn.Sequential) -> nn.Conv2d:
    """Return the convolution that sees the image itself."""
    first = features[0]
    assert isinstance(first, nn.Conv2d)
    return first


def channels_by_halving(spec: ImageSpec, width: int) -> list[int]:
    """Return the channels after each halving, down to a short side of at most 8."""
    count, side = 0, min(spec.height, spec.width)
    while side > 8:
        side //= 2
        count += 1
    return [min(MAX_CHANNELS, width * 2**i) for i in range(count)]


def halved(spec: ImageSpec, count: int) -> list[tuple[int, int]]:
    """Return height and width of the image and after each halving (odd sizes round down)."""
    sizes = [(spec.height, spec.width)]
    for _ in range(count):
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016, arXiv:1512.03385, section 3.3).

    The second normalisation begins at zero, so that the block begins as its shortcut (Goyal et al.
    2017, arXiv:1706.02677, section 5.1). Where the block halves, the shortcut takes means of 2x2
    first (He et al. 2019, "Bag of Tricks", arXiv:1812.01187, section 4.1, ResNet-D).
    """

    def __init__(self, source: int, target: int, *, halve: bool) -> None:
        super().__init__()
        stride = 2 if halve else 1
        self.residual = nn.Sequential(
            # A kernel of 4 halves as a pooling of 2 does, odd sizes too.
            nn.Conv2d(source, target, 4, stride, 1, bias=False)
            if halve
            else nn.Conv2d(source, target, 3, stride, 1, bias=False),
            nn.BatchNorm2d(target),
            nn.ReLU(),
            nn.Conv2d(target, target, 3, 1, 1, bias=False),
            nn.BatchNorm2d(target),
        )
        last = self.residual[-1]
        assert isinstance(last, nn.BatchNorm2d)
        nn.init.zeros_(last.weight)
        self.shortcut = nn.Sequential(*_shortcut(source, target, halve=halve))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C', H', W']."""
        return F.relu(self.shortcut(x) + self.residual(x))


def _convolutional(spec: ImageSpec, width: int) -> tuple[list[nn.Module], int]:
    """Strided convolutions down to a short side of at most 8; every place keeps its values."""
    channels = channels_by_halving(spec, width)
    layers: list[nn.Module] = []
    for source, target in zip([spec.channels, *channels], channels, strict=False):
        layers += _strided(source, target)
    rows, columns = halved(spec, len(channels))[-1]
    return layers, channels[-1] * rows * columns


def _residual(spec: ImageSpec, width: int) -> tuple[list[nn.Module], int]:
    """Residual blocks at the image's own size, or from 64 pixels down; then means over places."""
    layers: list[nn.Module] = []
    rows, columns = spec.height, spec.width
    source: int = spec.channels
    while min(rows, columns) > LARGEST_STAGE:
        layers += _strided(source, width)
        rows, columns, source = rows // 2, columns // 2, width
    if not layers:
        layers += [nn.Conv2d(source, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    layers.append(ResidualBlock(width, width, halve=False))
    source = width
    for stage in range(1, RESIDUAL_STAGES):
        if min(rows, columns) <= SMALLEST_STAGE:
            break
        target = min(RESIDUAL_MAX_CHANNELS, width * 2**stage)
        layers.append(ResidualBlock(source, target, halve=True))
        rows, columns, source = rows // 2, columns // 2, target
    # Of a fixed size: what torch makes of an adaptive one goes by the name of the mean of q(z|x).
    return [*layers, nn.AvgPool2d((rows, columns))], source


def _strided(source: int, target: int) -> list[nn.Module]:
    return [
        nn.Conv2d(source, target, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(target),
        nn.ReLU(),
    ]


def _shortcut(source: int, target: int, *, halve: bool) -> Iterator[nn.Module]:
    if halve:
        yield nn.AvgPool2d(2)
    if source != target:
        yield nn.Conv2d(source, target, 1, bias=False)
        yield nn.BatchNorm2d(target)

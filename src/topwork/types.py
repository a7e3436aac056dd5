"""Array types by what they hold, whose shapes stand in docstrings; and the words that options may have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:  # the command line reads its choices here, and must not load NumPy for it
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

FloatArray: TypeAlias = "NDArray[np.floating[Any]]"
IntArray: TypeAlias = "NDArray[np.integer[Any]]"
ImageArray: TypeAlias = "NDArray[np.uint8]"
StrArray: TypeAlias = "NDArray[np.str_]"
DigestArray: TypeAlias = "NDArray[np.bytes_]"
"""`(N,)`, dtype `S16`: one 128-bit content digest an image."""

Split: TypeAlias = Literal["train", "validation", "test"]
Pooling: TypeAlias = Literal["avg", "max", "flatten", "stages", "token", "patches"]
"""How a backbone's output becomes D numbers: over its last map, or that of every stage; of transformers the class
token, or the mean of the patches."""
Device: TypeAlias = Literal["auto", "cpu", "gpu"]
"""Where a backbone runs; 'auto' takes an accelerator where JAX sees one."""
Precision: TypeAlias = Literal["f32", "bf16"]
ValAs: TypeAlias = Literal["test", "validation"]
"""What the images are for that the data calls validation, where it brings training images and no test images."""
TestAs: TypeAlias = Literal["auto", "cv"]
"""How images are tested where the data brings no test images: see `ImageDataset.split`."""
GroupBy: TypeAlias = Literal["folder"]
Frame: TypeAlias = Literal["crop", "pad", "squash"]
"""What of a picture that is no square becomes one: its centre; all of it, grey beside it; or all, squashed."""
Filter: TypeAlias = Literal["bicubic", "bilinear"]
ValueRange: TypeAlias = tuple[float, float]
"""Which pixel values become black and white, of pictures deeper than 8 bits."""
Part: TypeAlias = Literal["last-block", "last-stage", "all"]
"""What of a network is fine-tuned."""
OnBadImage: TypeAlias = Literal["skip", "stop"]

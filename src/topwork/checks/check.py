"""`check_dataset`: all that may be wrong with labelled images, found from kept features in one go."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.backbones.backbone import Backbone
from topwork.checks.copies import THUMBNAIL_SIDE, Copies, find_copies
from topwork.checks.labels import LabelIssues, find_label_issues
from topwork.checks.strange import strange_rows
from topwork.data.cells import harmless
from topwork.data.dataset import ImageDataset
from topwork.data.decoding import has_several_frames, quiet_pillow
from topwork.data.images import Images
from topwork.data.splits import TEST, deal_folds, find_units
from topwork.data.table import UNLABELLED
from topwork.errors import DataError
from topwork.features.choice import backbone_for, sizes_of
from topwork.features.extraction import Features, extract_features
from topwork.features.pipeline import BadImage
from topwork.features.ranges import with_range
from topwork.progress import Reporter
from topwork.tops.cross_validation import out_of_sample_probabilities
from topwork.tops.linear import FOLDS
from topwork.types import Device, FloatArray, IntArray, StrArray
from topwork.words import counted

IMBALANCE = 10
"""Times more images in the largest class than in the smallest, from which on it is said."""
MOST_FOR_NEAR_COPIES = 200_000
"""Images beyond which comparing all with all takes minutes; exact copies are still found."""
_FEWEST_FOR_LABELS = 50
_SIZES_LOOKED_AT = 500
_FRAMES_LOOKED_AT = 1000
"""Images, evenly spaced: of WebP and AVIF the whole file is read for it."""
_NO_ISSUES = LabelIssues(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
_FACTS = ("finding", "image", "label", "suggested", "score", "other_image", "detail")
_TO_FILL_IN = ("exclude", "new_label")


@dataclass(frozen=True, eq=False)
class DataCheck:
    """What was found in a dataset; indices are the dataset's.

    Attributes:
        n: the number of images.
        names: what a person would call each image.
        class_names: K names.
        labels: `(n,)`, integers in 0..K-1.
        splits: `(n,)`, the split of each image, or its fold in a cross-validated test; None where there is no split.
        is_tested: `(n,)`, whether the image is for testing, so that none like it should be in another split.
        bad: images that can't be read.
        copies: pairs of images that show the same picture, or nearly the same.
        label_issues: labels that are probably wrong.
        strange: `(M,)`, images unlike all others, the strangest first.
        torn_groups: the groups with images in several splits.
        strangeness: `(M,)`, how far each of them is from the others; higher is stranger.
        sizes: `(K,)`, how many readable images each class has.
        share_small: the share of the images looked at whose shorter side is less than half of the input's.
        share_cut: the share of the images looked at of which the backbone sees less than half, the centre square.
        n_several_frames: how many of the images looked at have several pages or frames; the first of each is used.
        n_frames_looked_at: how many were looked at for that.
        input_size: the backbone's, in pixels.
    """

    n: int
    names: Sequence[str]
    class_names: tuple[str, ...]
    labels: IntArray
    splits: StrArray | None
    is_tested: NDArray[np.bool_]
    bad: tuple[BadImage, ...]
    copies: Copies
    label_issues: LabelIssues
    strange: IntArray
    torn_groups: Sequence[str]
    strangeness: FloatArray
    sizes: IntArray
    share_small: float
    share_cut: float
    n_several_frames: int
    n_frames_looked_at: int
    input_size: int

    @property
    def leaks(self) -> IntArray:
        """`(L,)`, which pairs of copies or near copies have a test image, and the other in another split."""
        if self.splits is None:
            return np.empty(0, np.int64)
        splits, is_tested = self.splits[self.copies.pairs], self.is_tested[self.copies.pairs]
        return np.flatnonzero((splits[:, 0] != splits[:, 1]) & is_tested.any(axis=1))

    @property
    def leaked_tests(self) -> IntArray:
        """The test images that are copies or near copies of one in another split, if by way of a third."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if self.splits is None:
            return np.empty(0, np.int64)
        pairs, splits = self.copies.pairs, np.unique(self.splits, return_inverse=True)[1]
        graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(self.n, self.n))
        picture = connected_components(graph, directed=False)[1]
        in_splits = np.unique(np.stack([picture, splits], axis=1), axis=0)
        n_splits_of_picture = np.bincount(in_splits[:, 0])
        return np.flatnonzero(self.is_tested & (n_splits_of_picture[picture] > 1))

    @property
    def contradictions(self) -> IntArray:
        """Which pairs of copies or near copies have two labels."""
        pairs = self.labels[self.copies.pairs]
        return np.flatnonzero(pairs[:, 0] != pairs[:, 1])

    @property
    def worst_pairs(self) -> IntArray:
        """`(P,)`, all pairs in the order to look at them: two labels, two splits, copies, the most alike."""
        every = np.arange(len(self.copies.pairs))
        is_clash, is_leak = np.isin(every, self.contradictions), np.isin(every, self.leaks)
        return np.lexsort((-self.copies.correlation, ~self.copies.is_exact, ~is_leak, ~is_clash))

    @property
    def imbalance(self) -> float:
        """How many times larger the largest class is than the smallest."""
        return float(self.sizes.max() / max(1, self.sizes.min())) if len(self.sizes) else 1.0

    def pair_text(self, place: int) -> str:
        """A pair of copies in words, such as `'a.png' (ash) and 'b.png' (birch)`."""
        return " and ".join(f"{self.names[i]!r} ({self.label(i)})" for i in self.copies.pairs[place])

    def label(self, index: int) -> str:
        """The class name of an image; empty where it has none."""
        if self.labels[index] == UNLABELLED:
            return ""
        return str(self.class_names[self.labels[index]])

    def findings(self) -> list[dict[str, Any]]:
        """Every finding as a row, the worst of each kind first.

        Returns:
            Rows with `finding` ('unreadable', 'copy', 'near copy', 'label', 'strange'), `image`, its `label`,
            `suggested` (the label that is more probable, or ""), `score` (of near copies the correlation; of labels
            the label's own probability; of strange images how far they are from the others; else None),
            `other_image` (of a pair, or "") and `detail` (all of it in words).
        """
        rows = [self._row("unreadable", image.index, detail=image.reason, name=image.name) for image in self.bad]
        rows += [self._pair_row(place) for place in self.worst_pairs]
        issues = zip(self.label_issues.indices, self.label_issues.suggested, self.label_issues.probability, strict=True)
        for index, other, probability in issues:
            suggested = self.class_names[other]
            detail = f"looks like {suggested}; its own label has a probability of {100 * probability:.2g} %"
            rows.append(self._row("label", index, suggested=suggested, score=probability, detail=detail))
        for index, far in zip(self.strange, self.strangeness, strict=True):
            rows.append(self._row("strange", index, score=far, detail="unlike the other images"))
        return rows

    def as_csv(self) -> str:
        """All findings as CSV: the columns of `findings`, then `exclude` and `new_label`, for a person to fill in."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [*_FACTS, *_TO_FILL_IN], lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: harmless(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
            for row in self.findings()
        )
        return text.getvalue()

    def _pair_row(self, place: int) -> dict[str, Any]:
        """A pair as a row about the later of the two; across splits, about the one that isn't for testing."""
        is_exact, (other, image) = bool(self.copies.is_exact[place]), self.copies.pairs[place].tolist()
        if self.is_tested[image] and not self.is_tested[other]:
            image, other = other, image
        detail = f"{'the same' if is_exact else 'nearly the same'} picture as {self.names[other]}"
        if self.labels[image] != self.labels[other]:
            detail += f", which is labelled {self.label(other)}"
        if self.splits is not None and self.splits[image] != self.splits[other]:
            detail += f"; one is in {self.splits[image]}, the other in {self.splits[other]}"
        score = None if is_exact else self.copies.correlation[place]
        return self._row(
            "copy" if is_exact else "near copy", image, score=score, other_image=self.names[other], detail=detail
        )

    def _row(
        self,
        finding: str,
        index: int,
        *,
        detail: str,
        name: str = "",
        suggested: str = "",
        score: float | None = None,
        other_image: str = "",
    ) -> dict[str, Any]:
        number = None if score is None else float(f"{score:.4g}")
        cells = (finding, name or self.names[index], self.label(index), suggested, number, other_image, detail)
        return dict(zip(_FACTS, cells, strict=True))

    def summary(self) -> dict[str, Any]:
        """How much was found, for JSON: pairs of copies and of near copies, and how many of both matter most."""
        return {
            "images": self.n,
            "unreadable": len(self.bad),
            "copies": int(self.copies.is_exact.sum()),
            "near_copies": int((~self.copies.is_exact).sum()),
            "pairs_across_splits": len(self.leaks),
            "pairs_with_two_labels": len(self.contradictions),
            "probable_label_errors": len(self.label_issues.indices),
            "strange": len(self.strange),
            "groups_in_several_splits": len(self.torn_groups),
            "imbalance": self.imbalance,
            "share_of_small_images": self.share_small,
            "share_of_cut_images": self.share_cut,
            "images_with_several_frames": self.n_several_frames,
            "images_looked_at_for_frames": self.n_frames_looked_at,
        }


def check_dataset(
    dataset: Images,
    backbone: str | Backbone,
    *,
    features: Features | None = None,
    folds: IntArray | None = None,
    device: Device = "auto",
    reporter: Reporter | None = None,
    seed: int = 0,
) -> DataCheck:
    """Look for what may be wrong with images; of unlabelled ones for copies, and for those unlike all others.

    Args:
        dataset: the images. Splits that it has are looked across; it is not split for this.
        backbone: as in `fit_classifier`; the better it sees, the more it finds.
        features: those of the dataset by this backbone, where they are at hand; else they are computed and kept.
        folds: `(N,)`, the fold of each image in a cross-validated test, -1 for those that were not tested; copies are
            looked for across these then.
        device: where the backbone runs.
        reporter: hears how far it is.
        seed: of the folds.

    Raises:
        DataError: fewer than two classes.
        TooManyBadImagesError: more than a tenth of the images can't be read.
    """
    if isinstance(dataset, ImageDataset) and len(dataset.class_names) < 2:
        raise DataError(
            f"There is only one class, with {counted(len(dataset), 'image')}; a check of labels needs two at least."
        )
    reporter = reporter or Reporter()
    backbone = backbone_for(dataset, backbone, reporter=reporter)
    backbone = with_range(backbone, dataset, reporter)
    dataset = dataset.with_range(backbone.recipe.value_range)
    thumbnails = thumbnails_for(len(dataset))
    features = features or extract_features(dataset, backbone, thumbnails=thumbnails, device=device, reporter=reporter)
    indices = features.indices
    labelled = dataset if isinstance(dataset, ImageDataset) else None
    every_label = np.full(len(dataset), UNLABELLED) if labelled is None else labelled.labels
    class_names = () if labelled is None else labelled.class_names
    labels = every_label[indices]
    with reporter.task("Checking the data", 3, "steps") as task:
        copies = find_copies(dataset, indices, near_too=thumbnails > 0, reporter=reporter)
        task.advance()
        issues = _NO_ISSUES if labelled is None else _label_issues(labelled, features, seed)
        task.advance()
        copies_of = np.unique(dataset.digests[indices], return_inverse=True)[1]
        strange, strangeness = strange_rows(features.values, copies_of)
        task.advance()
    splits = (
        dataset.splits
        if folds is None
        else np.array([f"fold {fold + 1}" if fold >= 0 else "no fold" for fold in folds])
    )
    pixels = sizes_of(dataset, _evenly(indices, _SIZES_LOOKED_AT))
    for_frames = _evenly(indices, _FRAMES_LOOKED_AT)
    return DataCheck(
        n=len(dataset),
        names=dataset.names,
        class_names=class_names,
        labels=every_label,
        splits=splits,
        is_tested=folds >= 0 if folds is not None else np.full(len(dataset), splits is not None) & (splits == TEST),
        bad=features.bad,
        copies=copies,
        label_issues=issues,
        strange=indices[strange],
        strangeness=strangeness,
        torn_groups=() if labelled is None else labelled.torn_groups,
        sizes=np.bincount(labels[labels >= 0], minlength=len(class_names)),
        share_small=float(np.mean([min(size) < backbone.size / 2 for size in pixels])) if pixels else 0.0,
        share_cut=float(np.mean([backbone.recipe.seen_of(*size) < 0.5 for size in pixels])) if pixels else 0.0,
        n_several_frames=_n_with_several_frames(dataset, for_frames),
        n_frames_looked_at=len(for_frames),
        input_size=backbone.size,
    )


def thumbnails_for(n_images: int) -> int:
    """The side in pixels of the thumbnails that a check of so many images compares; 0 where it compares none."""
    return THUMBNAIL_SIDE if n_images <= MOST_FOR_NEAR_COPIES else 0


def _evenly(indices: IntArray, most: int) -> IntArray:
    """Up to `most` of the indices, evenly spaced."""
    return indices[:: max(1, -(-len(indices) // most))]


def _n_with_several_frames(dataset: Images, places: IntArray) -> int:
    """How many of the images at these places have several pages or frames, of which the first is used."""
    with quiet_pillow():
        return sum(map(has_several_frames, dataset.source.payloads(dataset.rows[places])))


def _label_issues(dataset: ImageDataset, features: Features, seed: int) -> LabelIssues:
    """Labels that are probably wrong, of classes with enough images for it; of equal images, of the first."""
    rows = np.sort(np.unique(dataset.digests[features.indices], return_index=True)[1])
    labels = dataset.labels[features.indices[rows]]
    rows = rows[np.bincount(labels)[labels] >= FOLDS]
    images = dataset.select(features.indices[rows])
    known, codes = np.unique(images.labels, return_inverse=True)
    if len(rows) < _FEWEST_FOR_LABELS or len(known) < 2:
        return _NO_ISSUES
    folds = deal_folds(codes, find_units(images.digests, images.groups), FOLDS)
    probabilities = out_of_sample_probabilities(features.values[rows], codes, folds, seed=seed)
    found = find_label_issues(codes, probabilities)
    return LabelIssues(features.indices[rows[found.indices]], known[found.suggested], found.probability)

"""Labelled images: which image, which label, which split."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from topwork.data import buckets, folders, labelled_folder, named, packed, shards, tables
from topwork.data.archives import is_archive
from topwork.data.corrections import UNCORRECTED, Corrections, find_by_name
from topwork.data.decoding import Payload, StoredImage, as_image_array
from topwork.data.images import Images
from topwork.data.labels import doubtful_names, label_array, normal_form, require_single_labels
from topwork.data.sources import ArrayImages, ImageSource
from topwork.data.splits import (
    FEWEST_TO_SPLIT,
    SPLITS,
    TEST,
    TEST_FRACTION,
    TRAIN,
    VALIDATION,
    VALIDATION_FRACTION,
    Units,
    assign_splits,
    draw_sample,
    find_units,
)
from topwork.data.table import UNLABELLED, LabelTable, Wanted, require_known_classes
from topwork.data.walking import Folder, subfolders
from topwork.errors import DataError, OptionError, ShapeError, did_you_mean
from topwork.files import printable
from topwork.objects import is_address
from topwork.progress import Reporter
from topwork.types import GroupBy, IntArray, StrArray, TestAs, ValAs, ValueRange
from topwork.words import counted, listed, without


@dataclass(frozen=True, eq=False)
class ImageDataset(Images):
    """Labelled images that are read when they are needed.

    Make one with `from_directory`, `from_table`, `from_arrays`, `from_name`, or `load` (which decides by what it
    is given). `train`, `validation` and `test` are datasets too.

    Attributes:
        source: the images.
        rows: `(N,)`, which rows of `source` belong to this dataset, ascending.
        labels: `(N,)`, integers in 0..K-1.
        class_names: K names; `labels` point into them.
        splits: `(N,)` of 'train', 'validation', 'test', where the data brings a split; else None.
        groups: `(N,)`, images of one group stay in one split; or None.
        testable: `(N,)` booleans, which images may test a classifier; None: all. Others are learned from alone.
        origin: what the user named.
        notes: what was passed over when the dataset was made, one sentence each.
        is_split: whether every image has the split it is to have.
        corrections: which images were left out on request, and which were given another label.
        value_range: which pixel values become black and white where pictures deeper than 8 bits are shown or compared;
            None: 0 to 65,535. Backbones have their own.
        options: the arguments of `load` with which `origin` was read, but for defaults.
    """

    source: ImageSource
    rows: IntArray
    labels: IntArray
    class_names: tuple[str, ...]
    splits: StrArray | None = None
    groups: StrArray | None = None
    testable: NDArray[np.bool_] | None = None
    origin: str = "arrays"
    notes: tuple[str, ...] = ()
    is_split: bool = False
    corrections: Corrections = UNCORRECTED
    value_range: ValueRange | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    _of_each_image: ClassVar[tuple[str, ...]] = ("rows", "labels", "splits", "groups", "testable")

    @classmethod
    def from_directory(
        cls,
        path: str | Path,
        *,
        ignore_classes: Sequence[str] = (),
        min_images: int = 0,
        val_as: ValAs = "test",
        group_by: GroupBy | None = None,
        group_pattern: str | None = None,
    ) -> ImageDataset:
        """A folder with a sub-folder per class, or with `train/`, `validation/`, `test/` above the classes.

        Args:
            path: the folder; or where its like is in an object store, such as `s3://bucket/photos/`.
            ignore_classes: class folders to leave out.
            min_images: classes with fewer images are left out.
            val_as: what `val/` is for where there is a `train/` and no `test/`: 'test', its images test the classifier
                and validation images are taken from `train/`; or 'validation'.
            group_by: 'folder': the images of each folder below the class folders are a group, which stays in one
                split. Folders of equal names below several classes are one group.
            group_pattern: a regular expression that is searched in the path of each image below `path`, with `/`
                between folders; images with the same first capture are a group.

        Raises:
            DataError: no such folder, no images in it, one class only, classes without training images, or a pattern
                that some images don't match.
            OptionError: the pattern is no regular expression, or has no capture.
        """
        grouping = folders.Grouping(group_by, group_pattern)
        if is_address(str(path)):
            table = buckets.read_bucket(str(path), ignore_classes, grouping)
        else:
            table = folders.read_folder(Folder(Path(path)), ignore_classes, grouping)
        wanted = Wanted(ignore_classes, min_images, val_as=val_as)
        options = {**asdict(wanted), "group_by": group_by, "group_pattern": group_pattern}
        return cls._from_labels(table, str(path), wanted, options)

    @classmethod
    def from_table(
        cls,
        path: str | Path,
        *,
        image_column: str | None = None,
        label_column: str | None = None,
        split_column: str | None = None,
        group_column: str | None = None,
        image_root: str | Path | None = None,
        ignore_classes: Sequence[str] = (),
        min_images: int = 0,
        skip_unlabelled: bool = False,
        val_as: ValAs = "test",
    ) -> ImageDataset:
        """A CSV or Parquet table, one image a row: a path, or in Parquet also the encoded bytes.

        Columns left unnamed are found by their usual names (`image`, `path`, `file_name`, …; `label`, `class`, …;
        `split`). Class names come from the labels themselves, or from the schema's metadata (Hugging Face's ClassLabel,
        or a `classes` entry with a name a line). Paths may have backslashes, `~` or `file://`. Where most lead nowhere,
        the images of those names below the folder are taken, if each is the only one of its name.

        Args:
            path: the table; or a folder of tables, or a pattern such as `data/*.parquet`. Of several, the names tell
                the splits (`train-00000-of-00002.parquet`) where no column does.
            image_column: the column with paths or encoded images.
            label_column: the column with labels. Labels are taken in Unicode's form C, without blanks at their ends;
                whole numbers lose their fraction ('1.0' is '1').
            split_column: the column that says train, validation or test.
            group_column: the column whose equal values stay in one split.
            image_root: the folder that paths start from; None is the folder of the table.
            ignore_classes: as in `from_directory`, as for min_images and val_as.
            min_images: classes with fewer images are left out.
            skip_unlabelled: whether images without a label are left out, and counted: those whose label is missing,
                blank or NaN, and those with a negative number where class names are given. Or else they are an error.
            val_as: what validation images are for where there are no test images.

        Raises:
            DataError: no such table, a column that isn't there, a row without label, or several labels for one image.
        """
        columns = tables.Columns(image_column, label_column, split_column, group_column)
        wanted = Wanted(ignore_classes, min_images, skip_unlabelled, val_as)
        found = shards.find_shards(str(path)) or [Path(path)]
        root = None if image_root is None else Path(image_root)
        table = shards.read_shards(found, lambda one: tables.read_table(one, columns, root))
        options = {**asdict(wanted), **columns.arguments(), "image_root": image_root and str(image_root)}
        return cls._from_labels(table, str(path), wanted, options)

    @classmethod
    def from_journal(
        cls,
        path: str | Path,
        labels: str | Path,
        *,
        ignore_classes: Sequence[str] = (),
        min_images: int = 0,
        group_by: GroupBy | None = None,
        group_pattern: str | None = None,
    ) -> ImageDataset:
        """The images in a folder that were labelled with `topwork label`.

        Sub-folders are no classes here. Labels that a machine gave never test; and where 30 labelled images were drawn
        by chance, these alone do.

        Args:
            path: the folder.
            labels: the journal that `topwork label` wrote.
            ignore_classes: as in `from_directory`, as for min_images, group_by and group_pattern.
            min_images: classes with fewer images are left out.
            group_by: 'folder': the images of each sub-folder are a group.
            group_pattern: a regular expression whose first capture tells groups.

        Raises:
            DataError: no such folder or journal, or a person gave none of the images a label.
        """
        grouping = folders.Grouping(group_by, group_pattern)
        table = labelled_folder.read_labelled_folder(Path(path), Path(labels), grouping)
        wanted = Wanted(ignore_classes, min_images, skip_unlabelled=True)
        options = {**asdict(wanted), "labels": str(labels), "group_by": group_by, "group_pattern": group_pattern}
        return cls._from_labels(table, str(path), wanted, options)

    @classmethod
    def from_archive(
        cls,
        path: str | Path,
        *,
        label_column: str | None = None,
        ignore_classes: Sequence[str] = (),
        min_images: int = 0,
        skip_unlabelled: bool = False,
        val_as: ValAs = "test",
        group_by: GroupBy | None = None,
        group_pattern: str | None = None,
    ) -> ImageDataset:
        """A `.zip`, `.tar`, `.tar.gz` or `.tgz`, read where it is: nothing is unpacked.

        It holds what a folder may hold, by the rules of `from_directory`. Or else the labels are in files beside the
        images, as webdataset has it: `007.cls`, `007.json` or `007.txt` for `007.jpg`.

        Args:
            path: the archive; or a folder of archives, or a pattern such as `train-{0000..0003}.tar` or `data/*.tar`.
                Of several, the names tell the splits where their content doesn't.
            label_column: what the label is called in `.json` files; None finds it by its usual names.
            ignore_classes: as in `from_directory`, as for min_images, val_as, group_by and group_pattern.
            min_images: classes with fewer images are left out.
            skip_unlabelled: as in `from_table`.
            val_as: what validation images are for where there are no test images.
            group_by: which images stay in one split.
            group_pattern: the same, by a regular expression.

        Raises:
            DataError: no such archive, one that is damaged, encrypted or a bomb; or as `from_directory`.
            OptionError: the pattern is no regular expression, or has no capture.
        """
        grouping = folders.Grouping(group_by, group_pattern)
        found = shards.find_shards(str(path)) or [Path(path)]
        named_from = None if len(found) == 1 else Path(os.path.commonpath([one.parent for one in found]))
        table = shards.read_shards(
            found,
            lambda one: packed.read_archive(
                one,
                label_column=label_column,
                ignore_classes=ignore_classes,
                grouping=grouping,
                named_from=named_from,
            ),
        )
        wanted = Wanted(ignore_classes, min_images, skip_unlabelled, val_as)
        options = {"label_column": label_column, "group_by": group_by, "group_pattern": group_pattern}
        return cls._from_labels(table, str(path), wanted, {**asdict(wanted), **options})

    @classmethod
    def from_arrays(
        cls,
        images: NDArray[np.uint8] | Sequence[Any],
        labels: Sequence[Any] | NDArray[Any],
        *,
        class_names: Sequence[str] | None = None,
        splits: Sequence[str] | StrArray | None = None,
        groups: Sequence[Any] | None = None,
        skip_unlabelled: bool = False,
    ) -> ImageDataset:
        """Images in memory: `(N, H, W, 3)` or `(N, H, W)` uint8, or a list of PIL images, arrays or paths.

        Args:
            images: the images.
            labels: `(N,)`, names; or integers, which index `class_names` where it's given.
            class_names: K names, for integer labels.
            splits: `(N,)` of 'train', 'validation', 'test'.
            groups: `(N,)`, images of one group stay in one split.
            skip_unlabelled: as in `from_table`; None is a missing label too.

        Raises:
            ShapeError: images of a wrong dtype or shape, or as many labels as images are not given.
            DataError: an image without label, or with several; or unknown split names.
        """
        table = LabelTable(
            source=ArrayImages(as_payloads(images)),
            labels=label_array(labels),
            class_names=None if class_names is None else tuple(class_names),
            splits=None if splits is None else np.asarray(splits, dtype=str),
            groups=None if groups is None else np.asarray(groups, dtype=str),
        )
        return cls._from_labels(table, "arrays", Wanted(skip_unlabelled=skip_unlabelled, val_as="validation"))

    @classmethod
    def from_name(cls, name: str, *, offline: bool = False) -> ImageDataset:
        """A named set: digits (needs no download), mnist, fashion_mnist, cifar10, cifar100 (through Keras).

        Raises:
            UnknownNameError: no such name.
            OfflineError: it isn't on this machine, and `offline` forbids fetching it.
            DownloadError: it could not be fetched.
        """
        return cls._from_labels(named.read_named(name, offline=offline), name, Wanted())

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        image_column: str | None = None,
        label_column: str | None = None,
        split_column: str | None = None,
        group_column: str | None = None,
        image_root: str | Path | None = None,
        ignore_classes: Sequence[str] = (),
        min_images: int = 0,
        skip_unlabelled: bool = False,
        val_as: ValAs = "test",
        group_by: GroupBy | None = None,
        group_pattern: str | None = None,
        labels: str | Path | None = None,
        offline: bool = False,
        reporter: Reporter | None = None,
    ) -> ImageDataset:
        """The images that `source` names: a folder, a table, an archive, their like in an object store, or a named set.

        The arguments are those of `from_table`, `from_archive`, `from_directory` and, for `labels`, `from_journal`.
        Parquet tables and archives in an object store are copied into the cache folder first; `reporter` hears of it.

        Raises:
            DataError: it is none of these, or can't be used.
        """
        if not str(source):
            raise DataError("Expected a folder, a table or a named set; got an empty name. An unset variable, perhaps?")
        origin = str(source)
        if is_address(origin):
            source = buckets.fetch_files(origin, reporter or Reporter()) or source
        is_remote = is_address(str(source))
        found = [] if is_remote else shards.find_shards(str(source)) or []
        is_packed = bool(found) and is_archive(str(found[0]))
        is_table, is_folder = bool(found) and not is_packed, is_remote or (Path(source).is_dir() and not found)
        columns: dict[str, Any] = tables.Columns(image_column, label_column, split_column, group_column).arguments()
        label: dict[str, Any] = {"label_column": columns.pop("label_column"), "skip_unlabelled": skip_unlabelled}
        grouping: dict[str, Any] = {"group_by": group_by, "group_pattern": group_pattern}
        if not is_table:
            _require_none({**columns, "image_root": image_root}, source, "a CSV or Parquet table")
        if not (is_table or is_packed):
            _require_none(label, source, "a table or an archive")
        if not (is_folder or is_packed):
            _require_none(grouping, source, "a folder or an archive of images")
        if not is_folder:
            _require_none({"labels": labels}, source, "a folder of images")
        wanted = Wanted(ignore_classes, min_images, skip_unlabelled, val_as)
        common: dict[str, Any] = {"ignore_classes": ignore_classes, "min_images": min_images, "val_as": val_as}
        if labels is not None:
            return cls.from_journal(source, labels, ignore_classes=ignore_classes, min_images=min_images, **grouping)
        if is_table:
            dataset = cls.from_table(source, **columns, **label, image_root=image_root, **common)
        elif is_packed:
            dataset = cls.from_archive(source, **label, **grouping, **common)
        elif is_folder or str(source) not in named.NAMES:
            dataset = cls.from_directory(source, **grouping, **common)
        else:
            table = named.read_named(str(source), offline=offline)
            dataset = cls._from_labels(table, str(source), wanted, asdict(wanted))
        return replace(dataset, origin=printable(origin))

    @classmethod
    def _from_labels(
        cls, table: LabelTable, origin: str, wanted: Wanted, options: Mapping[str, Any] | None = None
    ) -> ImageDataset:
        numbered = table.numbered_labels()
        dataset = cls(
            source=table.source,
            rows=np.arange(len(numbered.labels)),
            labels=numbered.labels,
            class_names=numbered.class_names,
            splits=table.checked_splits(),
            groups=table.groups,
            testable=table.testable,
            origin=printable(origin),
            notes=(*table.notes, *numbered.notes),
            options={name: value for name, value in (options or {}).items() if value},
        )
        dataset = dataset._labelled(numbered.unlabelled, skip=wanted.skip_unlabelled, are_folders=table.are_folders)
        ignored = [normal_form(name) for name in wanted.ignore_classes]
        if not table.are_folders:  # those were left out with their folders
            require_known_classes(ignored, dataset.class_names)
        dataset = dataset._without_classes(ignored, wanted.min_images)
        counts = np.bincount(dataset.labels, minlength=len(dataset.class_names))
        if not table.are_folders:
            require_single_labels(dataset.class_names, counts)
        notes = doubtful_names(dataset.class_names, counts, are_folders=table.are_folders)
        return dataset._with_notes(*notes)._with_val_as(wanted.val_as)

    def _labelled(self, unlabelled: str, *, skip: bool, are_folders: bool) -> ImageDataset:
        """The images with a label; `unlabelled` says which have none."""
        if not unlabelled:
            return self
        if are_folders:
            raise DataError(
                f"{self.origin!r}: {unlabelled}: its folder has a blank name. Give it another, or move it away."
            )
        if not skip:
            raise DataError(
                f"{self.origin!r}: {unlabelled}. Give each image a label, or leave those without out: "
                "`skip_unlabelled=True`."
            )
        part = self.select(self.labels != UNLABELLED)
        if len(part) == 0:
            raise DataError(f"{self.origin!r}: {unlabelled}. None is left.")
        return part._with_notes(f"{unlabelled}: left out.")

    def _with_val_as(self, val_as: ValAs) -> ImageDataset:
        """The dataset with its validation images as `val_as` says, where it has training images and no test images."""
        if self.splits is None:
            return self
        if val_as == "test" and set(np.unique(self.splits)) == {TRAIN, VALIDATION}:
            return replace(self, splits=np.where(self.splits == TRAIN, TRAIN, TEST))._with_notes(
                "the data brings validation images and no test images. The validation images serve as test images, and "
                "new ones for validation are taken from the training images. `val_as=validation` keeps them for "
                "validation."
            )
        return self._with_notes(*_classes_without_validation(self.labels, self.class_names, self.splits))

    def _with_notes(self, *notes: str) -> ImageDataset:
        return replace(self, notes=(*self.notes, *notes)) if notes else self

    def _without_classes(self, names: Sequence[str], min_images: int) -> ImageDataset:
        """The images of the other classes; those with fewer images than `min_images` go too, and are named."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        small = [name for name, n in zip(self.class_names, counts, strict=True) if n < min_images]
        left = [name for name in self.class_names if name not in {*names, *small}]
        if len(left) == len(self.class_names):
            return self
        if not left:
            raise DataError(f"No class is left: all have fewer than {min_images:,} images, or were left out.")
        place = np.array([left.index(name) if name in left else -1 for name in self.class_names])
        part = self.select(place[self.labels] >= 0)
        part = replace(part, labels=place[part.labels], class_names=tuple(left))
        if not small:
            return part
        n_images = int(sum(counts[self.class_names.index(name)] for name in small))
        return part._with_notes(
            f"the {listed(small)} with fewer than {min_images:,} images, {n_images:,} in all, left out."
        )

    def __repr__(self) -> str:
        return f"<ImageDataset {self.origin!r}: {len(self):,} images, {len(self.class_names)} classes>"

    def select(self, indices: IntArray | NDArray[np.bool_]) -> ImageDataset:
        """The images at `indices` (ascending integers in 0..N-1, or `(N,)` booleans) as a dataset."""
        return super().select(indices).changed(is_split=False)

    def without(self, names: Iterable[str]) -> ImageDataset:
        """The dataset without the images of these names: for training, for tests, and for every check.

        A class that has no image left is gone too.

        Args:
            names: as `names` has them, or paths that lead to the files from here.

        Raises:
            DataError: a name that no image has, or several images; or no image is left.
        """
        gone = find_by_name(self.source, self.rows, names, self.origin)
        kept = self.select(np.setdiff1d(np.arange(len(self)), gone))
        if len(kept) == 0:
            raise DataError(f"All {counted(len(self), 'image')} of {self.origin!r} are to be left out. Keep some.")
        excluded = (*self.corrections.excluded, *(self.source.name(int(row)) for row in self.rows[np.unique(gone)]))
        return kept._with_labels(kept.labels, replace(self.corrections, excluded=excluded))

    def relabelled(self, labels: Mapping[str, str]) -> ImageDataset:
        """The dataset with other labels for some images.

        A class that has no image left is gone.

        Args:
            labels: the right class name by image name; names are taken as `without` takes them.

        Raises:
            DataError: a name that no image has, or several images; or a class that the dataset does not have.
        """
        labels = {image: normal_form(name) for image, name in labels.items()}
        unknown = sorted({name for name in labels.values() if name not in self.class_names})
        if unknown:
            raise DataError(
                f"No class is called {unknown[0]!r}.{did_you_mean(unknown[0], self.class_names)} "
                f"The classes of {self.origin!r} are {', '.join(self.class_names[:20])}."
            )
        places = find_by_name(self.source, self.rows, labels, self.origin)
        new = self.labels.copy()
        new[places] = [self.class_names.index(name) for name in labels.values()]
        changed = np.flatnonzero(new != self.labels)
        rows = [
            (self.source.name(int(self.rows[i])), self.class_names[self.labels[i]], self.class_names[new[i]])
            for i in changed
        ]
        corrections = replace(self.corrections, relabelled=(*self.corrections.relabelled, *rows))
        return self._with_labels(new, corrections)

    def _with_labels(self, labels: IntArray, corrections: Corrections) -> ImageDataset:
        """The same images with these labels; classes that none of them has are gone."""
        used, labels = np.unique(labels, return_inverse=True)
        names = tuple(self.class_names[label] for label in used)
        return self.changed(labels=labels, class_names=names, corrections=corrections)

    def sample(self, n: int) -> ImageDataset:
        """About `n` of the images, where all of their features would not fit; itself where it has no more.

        Each class, in each split that the data brings, keeps its share, but ten images at least, or all it has. They
        are drawn by content: the same ones each time, and some of a larger sample. A note says so in the report.
        """
        if n >= len(self):
            return self
        splits = np.unique([""] * len(self) if self.splits is None else self.splits, return_inverse=True)[1]
        strata = np.unique(self.labels * len(SPLITS) + splits, return_inverse=True)[1]
        part = self.select(draw_sample(self.digests, strata, n))
        return part._with_notes(
            f"a sample of {len(part):,} of {len(self):,} images, drawn by content. All of them may do better: "
            "docs/scale.md has figures."
        )

    def units(self, indices: IntArray | NDArray[np.bool_]) -> Units:
        """Which of these images must stay together: copies, and images of one group."""
        return find_units(self.digests[indices], None if self.groups is None else self.groups[indices])

    @property
    def may_test(self) -> NDArray[np.bool_]:
        """`(N,)`, which images may test a classifier."""
        return np.ones(len(self), bool) if self.testable is None else self.testable

    @cached_property
    def torn_groups(self) -> list[str]:
        """The groups whose images lie in several splits that the data brings, sorted."""
        if self.groups is None or self.splits is None:
            return []
        pairs = np.unique(np.stack([self.groups, self.splits]), axis=1)
        names, counts = np.unique(pairs[0], return_counts=True)
        return [str(name) for name in names[counts > 1]]

    def split(self, *, test: float | TestAs = TEST_FRACTION, validation: float = VALIDATION_FRACTION) -> ImageDataset:
        """The same dataset with a split for every image.

        Splits that the data brings are kept. What it doesn't bring is taken from the train split, by content
        (see `topwork.data.splits`).

        Args:
            test: the fraction of the images for testing. 'cv': none; `train` tests every image once, by a top that
                learned from the other folds. 'auto': 'cv' below 1,000 images, and where not all may test; else a fifth.
            validation: the fraction of the images not for testing that early stopping and choices use.

        Raises:
            DataError: one class only, or classes with images in other splits of the data and none for training.
            OptionError: `test` is none of these, or a fraction outside 0..0.9.
            SplitError: a class has too few images.
        """
        if test == "auto":
            test = "cv" if len(self) < FEWEST_TO_SPLIT or self.testable is not None else TEST_FRACTION
        fraction = 0.0 if test == "cv" else test
        if isinstance(fraction, str):
            raise OptionError(f"Expected test to be a fraction, 'auto' or 'cv'; got {test!r}.")
        if test == 0:
            raise OptionError("Nothing would test the classifier. `test=cv` learns from all and tests each image once.")
        if len(self.class_names) < 2:
            raise DataError(
                f"There is only one class, {self.class_names[0]!r}, with {counted(len(self), 'image')}. "
                "A classifier needs two at least: one sub-folder (or label) for each." + self._inner_classes_hint()
            )
        splits = np.full(len(self), TRAIN, dtype="<U10") if self.splits is None else self.splits.astype("<U10")
        open_images = splits == TRAIN
        if self.splits is not None:
            self._require_training_images(open_images)
        missing = {split: part for split, part in ((TEST, fraction), (VALIDATION, validation)) if split not in splits}
        if missing:
            units = self.units(open_images)
            splits[open_images] = assign_splits(
                self.labels[open_images],
                units,
                self.class_names,
                test=missing.get(TEST, 0.0),
                validation=missing.get(VALIDATION, 0.0),
            )
            splits[(splits == TEST) & ~self.may_test] = TRAIN
        return self.changed(splits=splits, is_split=True)

    def _require_training_images(self, is_train: NDArray[np.bool_]) -> None:
        if not np.any(is_train):
            raise DataError(
                f"No image of {self.origin!r} is marked for training; the split says "
                f"{', '.join(np.unique(np.asarray(self.splits)))}."
            )
        known = set(np.unique(self.labels[is_train]))
        unknown = [name for k, name in enumerate(self.class_names) if k not in known]
        if unknown:
            them = "it" if len(unknown) == 1 else "them"
            raise DataError(
                f"The split that {self.origin!r} brings has no training images of the {listed(unknown, most=20)}. "
                f"Add training images of {them}, or leave {them} out: {without(unknown)}."
            )

    def _inner_classes_hint(self) -> str:
        inner = Path(self.origin) / self.class_names[0]
        while inner.is_dir() and len(folders := subfolders(Folder(inner))) == 1:
            inner = folders[0].path
        has_classes = inner.is_dir() and len(folders) > 1
        return f" Are the classes further down? Then give {printable(str(inner))!r}." if has_classes else ""

    def _images_of(self, name: str) -> ImageDataset:
        """The images in one split; splits first where that is still to do."""
        whole = self.with_splits
        return whole.select(np.flatnonzero(np.asarray(whole.splits) == name))

    @cached_property
    def with_splits(self) -> ImageDataset:
        """The dataset with a split for every image: itself if it was split, else `split()`."""
        return self if self.is_split else self.split()

    @property
    def train(self) -> ImageDataset:
        """The images that tops are fitted on."""
        return self._images_of(TRAIN)

    @property
    def validation(self) -> ImageDataset:
        """The images that early stopping and the choice of regularisation look at."""
        return self._images_of(VALIDATION)

    @property
    def test(self) -> ImageDataset:
        """The images that are used once, at the end."""
        return self._images_of(TEST)


def _require_none(options: Mapping[str, Any], source: str | Path, kind: str) -> None:
    """Raise an `OptionError` for an option that is for sources of another kind."""
    for name, value in options.items():
        if value:
            raise OptionError(f"`{name}={value}` is for {kind}; {printable(str(source))!r} isn't one.")


def _classes_without_validation(labels: IntArray, class_names: tuple[str, ...], splits: StrArray) -> list[str]:
    """A sentence for the classes without an image among the validation images that the data brings."""
    there = set(np.unique(labels[splits == VALIDATION]))
    missing = [name for k, name in enumerate(class_names) if k not in there]
    if not there or not missing:
        return []
    return [f"there is no validation image of the {listed(missing)}: what is chosen on validation does not see it."]


def as_payloads(images: NDArray[np.uint8] | Sequence[Any]) -> NDArray[np.uint8] | tuple[Payload, ...]:
    """Images as a user gives them, as `ArrayImages` takes them.

    Raises:
        ShapeError: not `(N, H, W, 3)` uint8, nor a sequence of paths, bytes, PIL images and uint8 arrays.
    """
    from PIL import Image

    if isinstance(images, np.ndarray) and images.dtype != object and images.dtype.kind != "U":
        return as_image_array(images)
    if isinstance(images, str | bytes | Path | Image.Image):
        raise ShapeError(f"Expected a list of images, got one {type(images).__name__}. Put it in a list: [image].")
    payloads: list[Payload] = []
    for i, image in enumerate(images):
        if isinstance(image, str):
            payloads.append(Path(image))
        elif isinstance(image, bytes | Path | StoredImage | Image.Image):
            payloads.append(image)
        elif isinstance(image, np.ndarray):
            payloads.append(as_image_array(image[None])[0])
        else:
            raise ShapeError(
                f"Image {i} is a {type(image).__name__}. Expected paths, PIL images, encoded bytes, or uint8 arrays."
            )
    return tuple(payloads)

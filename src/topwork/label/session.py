"""One labelling: what is known of each image, what a person decides, and what is worked out behind."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from topwork.backbones.backbone import Backbone
from topwork.data.decoding import digest_of, read_image
from topwork.data.images import UnlabelledImages
from topwork.data.journal import (
    CAMERA,
    CLASS,
    EXCLUDED,
    KEPT,
    LABELLED,
    MACHINE,
    NO_CLASS,
    OPEN,
    PERSON,
    RANDOM,
    SKIPPED,
    Journal,
    JournalRow,
)
from topwork.data.labelled_folder import hex_of
from topwork.data.labels import normal_form
from topwork.data.sources import FileImages, JoinedImages
from topwork.errors import BadImageError, DataError, OptionError, TopworkError
from topwork.features.extraction import extract_features
from topwork.features.ranges import with_range
from topwork.files import atomic_file, printable
from topwork.label.analysis import DRAWN_WHY, Analysis, Suggestion, analyse, most_alike
from topwork.label.learning import Lesson, advice_of, draw_curve
from topwork.label.review import Finding, findings_of_images
from topwork.memory import new_array
from topwork.progress import Reporter, Task
from topwork.types import Device, FloatArray
from topwork.words import counted

FIRST_IMAGES, MOST_IMAGES = 256, 4096
"""Extracted at a time: few at first, so that labelling can start. Fewer, and one bad image in twenty could be more than
a tenth of them, at which extraction stops."""
SPARE = 256
"""Rows for images that the camera adds."""
LONGEST_NAME = 200
MOST_LEARNED = 3000
"""Labels that the page learns from, drawn from all: more would take seconds after each one. Training takes all."""
_NEXT_WHY = "the next of the images without a label"
_CURVE_GROWS = 1.1


class Stopped(Exception):
    """The labelling ends: what runs behind it ends too."""


class Session:
    """What the page shows, and does. Its methods may be called by any thread.

    The lock is held to append to the journal and to exchange results, never while something is worked out. Labels are
    known by name until an image's digest is; then by digest.
    """

    def __init__(
        self,
        images: UnlabelledImages,
        journal: Journal,
        backbone: Backbone,
        *,
        device: Device = "auto",
        review: bool = False,
        train: Callable[[Reporter], Path] | None = None,
    ) -> None:
        self.images = images
        self.root = Path(images.origin)
        self.journal = journal
        self.backbone = backbone
        self.version = 1
        self.message: str | None = None
        self.training: dict[str, Any] | None = None
        self.run: Path | None = None
        self.analysis = Analysis()
        self.curve: list[tuple[int, float]] = []
        self.advice: str | None = None
        self.names = list(images.names)
        self.bad: dict[int, str] = {}
        self.is_extracting, self.is_fitting, self.is_reviewing = True, False, False
        self._device = device
        self._train = train
        self._wants_review = review
        self._found: tuple[Finding, ...] = ()
        self._features: FloatArray | None = None
        self._ready = np.zeros(len(images), bool)
        self._drawn: set[int] = set()  # those offered as drawn by chance, this time
        self._digests: dict[int, str] = {}
        self._places: defaultdict[str, list[int]] = defaultdict(list)
        self._order = np.random.default_rng(0).permutation(len(images))
        self._lock = threading.RLock()
        self._changed, self._added = threading.Event(), threading.Event()
        self._stop = threading.Event()
        by_name = {row.file: row for row in journal.labelling.images.values()}
        self._marks = {i: by_name[name] for i, name in enumerate(self.names) if name in by_name}
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=f"topwork-label-{work.__name__}", daemon=True)
            for work in (self._extract, self._learn)
        ]

    def start(self) -> None:
        """Begin to extract and to learn."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End what runs behind, soon."""
        self._stop.set()
        self._changed.set()
        self._added.set()
        for thread in self._threads:
            thread.join(timeout=10)

    # what the page asks

    def state(self) -> dict[str, Any]:
        """For `/api/state`."""
        with self._lock:
            marks, classes = list(self._marks.values()), list(self.journal.labelling.classes)
            labelled = [row for row in marks if row.label]
            counts = Counter((row.label, row.source == MACHINE) for row in labelled)
            return {
                "folder": self.images.origin,
                "journal": printable(str(self.journal.path)),
                "backbone": self.backbone.name,
                "version": self.version,
                "images": len(self.names),
                "ready": int(self._ready.sum()),
                "unreadable": len(self.bad),
                "extracting": self.is_extracting,
                "classes": [
                    {"name": name, "person": counts[name, False], "machine": counts[name, True]} for name in classes
                ],
                "labelled": len(labelled),
                "excluded": sum(row.state == EXCLUDED for row in marks),
                "skipped": sum(row.state == SKIPPED for row in marks),
                "can_undo": self.journal.labelling.can_undo,
                "estimate": self.analysis.accuracy,
                "curve": [list(point) for point in self.curve],
                "advice": self.advice,
                "fitting": self.is_fitting,
                "reviewing": self.is_reviewing,
                "message": self.message,
                "training": self.training,
            }

    def next(self, n: int) -> dict[str, Any]:
        """For `/api/next`: the suggestions that are still open; else images in an order drawn once."""
        with self._lock:
            found = [one for one in self.analysis.queue if self._is_open(one.id)][:n]
            if len(found) < n:
                taken = {one.id for one in found}
                others = self._order[self._open_mask()[self._order]][:n].tolist()
                others = [i for i in others if i not in taken][: n - len(found)]
                is_drawn = not self.analysis.queue  # later, uncertainty decides which of these are labelled
                if is_drawn:
                    self._drawn.update(others)
                found += [Suggestion(i, DRAWN_WHY if is_drawn else _NEXT_WHY, is_drawn) for i in others]
            return {"items": [self.item(one.id, one.why) for one in found], "why": found[0].why if found else ""}

    def item(self, place: int, why: str | None = None) -> dict[str, Any]:
        """An image as the page knows it."""
        row = self._marks.get(place)
        predicted, certainty = self.analysis.of(place)
        return {
            "id": place,
            "name": self.names[place],
            "label": (row.label or None) if row else None,
            "source": (row.source or None) if row and row.label else None,
            "excluded": bool(row and row.state == EXCLUDED),
            "skipped": bool(row and row.state == SKIPPED),
            "predicted": predicted,
            "certainty": certainty,
            "why": why,
        }

    def gallery(self, order: str, class_name: str | None, labelled: str, start: int, n: int) -> dict[str, Any]:
        """For `/api/gallery`."""
        with self._lock:
            analysis, n_images = self.analysis, len(self.names)
            labels = {i: row.label for i, row in self._marks.items() if row.label}
            is_labelled = _mask(n_images, labels)
            predicted = _padded(analysis.predicted, n_images, -1)
            certainty = _padded(analysis.certainty, n_images, 0)
            shown = ~_mask(n_images, self.bad)
            if labelled != "all":
                shown &= is_labelled == (labelled == "yes")
            if class_name is not None:
                code = analysis.class_names.index(class_name) if class_name in analysis.class_names else -2
                own = _mask(n_images, [i for i, label in labels.items() if label == class_name])
                shown &= own | ((predicted == code) & ~is_labelled)
            chosen = np.flatnonzero(shown)
            if order == "certainty":
                chosen = chosen[np.argsort(certainty[chosen], kind="stable")]
            elif order == "class":
                chosen = chosen[np.lexsort((-certainty[chosen], predicted[chosen]))]
            items = [self.item(int(i)) for i in chosen[start : start + n]]
            return {"total": len(chosen), "items": items}

    def like(self, place: int, n: int) -> dict[str, Any]:
        """For `/api/like`: the images with the most similar features."""
        self._require_image(place)
        with self._lock:
            features, is_ready = self._features, self._ready.copy()
        if features is None or not is_ready[place]:
            raise OptionError("The features of this image are not there yet. Try again in a moment.")
        near = most_alike(features[: len(is_ready)], is_ready, place)[:n]
        with self._lock:
            return {"items": [self.item(int(i)) for i in near]}

    def review(self, start: int, n: int) -> dict[str, Any]:
        """For `/api/review`; asked for the first time, it has copies and strange images looked for."""
        with self._lock:
            if not self._wants_review:
                self._wants_review = True
                self._added.set()
            found = [one for one in (*self.analysis.findings, *self._found) if not self._is_settled(one)]
            items = [
                {
                    "kind": one.kind,
                    "items": [self.item(i) for i in one.ids],
                    "given": (row.label or None) if (row := self._marks.get(one.ids[0])) else None,
                    "likely": one.likely,
                    "probability": one.probability,
                    "why": one.why,
                    "key": one.key,
                }
                for one in found[start : start + n]
            ]
            return {"total": len(found), "items": items}

    def picture(self, place: int, side: int) -> bytes:
        """A JPEG of an image, its longer side at most so many pixels.

        Raises:
            BadImageError: it can't be read.
        """
        import io

        self._require_image(place)
        payload = self._payload(place)
        image = read_image(payload, self.names[place], at_least=side, value_range=self.images.value_range)
        image.thumbnail((side, side))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=85)
        return file.getvalue()

    # what a person decides

    def label(self, items: Sequence[tuple[int, str | None]], source: str = PERSON) -> int:
        """Give images labels, or take them away (None); on the disk when this returns. Returns how many."""
        named = [(place, None if name is None else class_name(name)) for place, name in items]
        digests = {place: self._digest(place) for place, _ in named}
        with self._lock:
            known = self.journal.labelling.classes
            new = dict.fromkeys(name for _, name in named if name is not None and name not in known)
            rows = [JournalRow(label=name, state=CLASS) for name in new]
            for place, name in named:
                before = self._marks.get(place)
                is_drawn = source == PERSON and (place in self._drawn or bool(before and before.drawn))
                own = JournalRow(self.names[place], digests[place], drawn=RANDOM if is_drawn else "")
                rows.append(own if name is None else replace(own, label=name, source=source, state=LABELLED))
            self._append(rows)
        return len(named)

    def mark(self, places: Sequence[int], state: str) -> int:
        """Exclude or skip images, or keep them as they are; returns how many."""
        digests = {place: self._digest(place) for place in places}
        with self._lock:
            rows = []
            for place in places:
                before = self._marks.get(place) or JournalRow()
                rows.append(replace(before, file=self.names[place], digest=digests[place], state=state, undo=""))
            self._append(rows)
        return len(places)

    def undo(self) -> list[dict[str, Any]]:
        """Take the last action back; returns the images that it was about."""
        with self._lock:
            rows = self.journal.labelling.undoing()
            if rows:
                self._append(rows)
            return [self.item(i) for row in rows for i in self._places_of(row)]

    def change_class(self, do: str, name: str, to: str | None) -> None:
        """Make, rename or merge a class.

        Raises:
            OptionError: there is no such class, or there is one already.
        """
        name = class_name(name)
        with self._lock:
            classes = self.journal.labelling.classes
            if do == "add":
                if name in classes:
                    raise OptionError(f"There is a class {name!r} already.")
                self._append([JournalRow(label=name, state=CLASS)])
                return
            to = class_name(to or "")
            if name not in classes:
                raise OptionError(f"There is no class {name!r}.")
            if (to in classes) != (do == "merge") or to == name:
                what = "There is a class {!r} already; merge the two." if do == "rename" else "There is no class {!r}."
                raise OptionError(what.format(to) if to != name else f"The class is called {name!r} already.")
            images = [row for row in self.journal.labelling.images.values() if row.label == name]
            rows = [JournalRow(label=name, state=NO_CLASS)]
            rows += [JournalRow(label=to, state=CLASS)] if do == "rename" else []
            self._append([*rows, *(replace(row, label=to, undo="") for row in images)])

    def acceptable(self, name: str, above: float) -> list[dict[str, Any]]:
        """The open images that the top takes for a class with more than this probability, the surest first."""
        with self._lock:
            analysis = self.analysis
            if name not in analysis.class_names:
                return []
            is_sure = (analysis.predicted == analysis.class_names.index(name)) & (analysis.certainty >= above)
            places = np.flatnonzero(is_sure)
            places = places[np.argsort(-analysis.certainty[places], kind="stable")]
            return [self.item(int(i)) for i in places if self._is_open(int(i))]

    def accept(self, name: str, above: float, places: Sequence[int]) -> int:
        """Give these images the class as a label of the machine's, those alone that are acceptable still."""
        there = {item["id"] for item in self.acceptable(name, above)}
        chosen = [place for place in places if place in there]
        return self.label([(place, name) for place in chosen], MACHINE) if chosen else 0

    def decide(self, key: str, do: str, label: str | None, places: Sequence[int] | None) -> int:
        """Settle a finding: keep its images, or those named, as they are, give them a label, or exclude them."""
        with self._lock:
            found = next((one for one in (*self.analysis.findings, *self._found) if one.key == key), None)
        if found is None and places is None:
            raise OptionError("This finding is no longer there. Load the page again.")
        # while a person looks at a finding, it may vanish: which images are meant suffices
        chosen = list(places or (found.ids if found else ()))
        if do == "relabel":
            return self.label([(place, class_name(label or "")) for place in chosen])
        return self.mark(chosen, KEPT if do == "keep" else EXCLUDED)

    def add_picture(self, content: bytes, name: str) -> int:
        """Keep a picture of the camera in the folder, labelled; returns its id.

        Raises:
            BadImageError: it is none.
        """
        name = class_name(name)
        read_image(content, "the camera's picture")
        digest = digest_of(content).hex()
        path = self.root / "camera" / f"{digest[:16]}.jpg"
        with atomic_file(path) as file:
            file.write(content)
        with self._lock:
            place = len(self.names)
            shown = str(path.relative_to(self.root))
            if shown in self.names:  # the same picture twice
                return self.names.index(shown)
            source = JoinedImages((self.images.source, FileImages((str(path),), str(self.root))))
            images = UnlabelledImages.from_source(source, self.images.origin)
            self.images = images.with_range(self.images.value_range)
            self.names.append(shown)
            self._ready = np.append(self._ready, False)
            self._order = np.append(self._order, place)
            self._know(place, digest)
        self.label([(place, name)], CAMERA)
        self._added.set()
        return place

    def begin_training(self) -> None:
        """Train on what is labelled, in a thread of its own.

        Raises:
            OptionError: a training runs, or there is nothing to train on.
        """
        with self._lock:
            if self.training and self.training["state"] == "running":
                raise OptionError("A training is running. Wait for it.")
            if len({row.label for row in self._marks.values() if row.label and row.state != EXCLUDED}) < 2:
                raise OptionError("Label images of two classes first.")
            self.training = {
                "state": "running",
                "step": "Beginning",
                "share": 0.0,
                "run": None,
                "report": None,
                "error": None,
            }
            self.version += 1
        thread = threading.Thread(target=self._training, name="topwork-label-training", daemon=True)
        self._threads.append(thread)
        thread.start()

    # what is known

    def _is_open(self, place: int) -> bool:
        row = self._marks.get(place)
        return (row is None or _wants_label(row)) and place not in self.bad

    def _open_mask(self) -> Any:
        """`(N,)` booleans, which images want a label."""
        closed = [i for i, row in self._marks.items() if not _wants_label(row)]
        return ~_mask(len(self.names), [*closed, *self.bad])

    def _is_settled(self, found: Finding) -> bool:
        rows = [self._marks.get(i) for i in found.ids]
        if found.likely is not None and rows[0] and rows[0].label == found.likely:
            return True
        return all(row and row.state == KEPT for row in rows) or any(row and row.state == EXCLUDED for row in rows)

    def _require_image(self, place: int) -> None:
        if not 0 <= place < len(self.names):
            raise OptionError(f"There is no image {place}.")

    def _payload(self, place: int) -> Any:
        return next(iter(self.images.source.payloads(np.array([place]))))

    def _digest(self, place: int) -> str:
        """Of an image's content, read now where it is not known yet."""
        self._require_image(place)
        if place not in self._digests:
            try:
                digest = digest_of(self._payload(place))
            except OSError as error:
                raise BadImageError(self.names[place], error.strerror or str(error)) from error
            with self._lock:
                self._know(place, hex_of(digest))
        return self._digests[place]

    def _know(self, place: int, digest: str) -> None:
        """Take an image's label by its digest from now on."""
        if place not in self._digests:
            self._digests[place] = digest
            self._places[digest].append(place)
            row = self.journal.labelling.images.get(digest)
            if row is None:
                self._marks.pop(place, None)
            else:
                self._marks[place] = row

    def _places_of(self, row: JournalRow) -> list[int]:
        return self._places.get(row.digest, []) if row.digest else []

    def _append(self, rows: list[JournalRow]) -> None:
        """Write an action, then let it be known."""
        for row in self.journal.append(rows):
            for place in self._places_of(row):
                self._marks[place] = row
            if row.digest and row.digest not in self._places:  # renamed while its image's digest was not known
                for place in [i for i, mark in self._marks.items() if mark.digest == row.digest]:
                    self._marks[place] = row
        self.version += 1
        self.is_fitting = self._features is not None
        self._changed.set()

    # what runs behind

    def _guarded(self, work: Callable[[], None]) -> None:
        while not self._stop.is_set():
            try:
                work()
            except Stopped:
                pass
            except TopworkError as error:
                self._say(str(error))
            except Exception as error:  # a thread that ends must not end without a word
                self._say(f"A mistake in Topwork: {type(error).__name__}: {error}. Labels are still kept.")
            if work == self._extract:  # what can't be read now can't be read in a moment
                self.is_extracting = False
                return
            self.is_fitting = False

    def _say(self, text: str) -> None:
        with self._lock:
            self.message = text
            self.version += 1

    def _extract(self) -> None:
        reporter = _PageReporter(self)
        backbone = with_range(self.backbone, self.images, reporter)
        with self._lock:
            self.images = self.images.with_range(backbone.recipe.value_range)
        start, size, n = 0, FIRST_IMAGES, len(self.names)
        while start < n:
            self._extract_some(np.sort(self._order[start : start + size]), backbone, reporter)
            start, size = start + size, min(2 * size, MOST_IMAGES)
        while not self._stop.is_set():
            with self._lock:
                done = set(np.flatnonzero(self._ready).tolist()) | set(self.bad)
                missing = [i for i in range(n, len(self.names)) if i not in done]
                self.is_extracting = bool(missing)
                self.version += 1
            if missing:
                self._extract_some(np.array(missing), backbone, reporter)
            elif self._wants_review and not self._found:
                self._review_images()
                self._added.wait()
            else:
                self._added.wait()
            self._added.clear()

    def _extract_some(self, places: Any, backbone: Backbone, reporter: Reporter) -> None:
        with self._lock:
            part = self.images.select(places)
        digests = part.read_digests(reporter)
        with self._lock:
            for place, digest in zip(places, digests, strict=True):
                self._know(int(place), hex_of(digest))
        found = extract_features(part, backbone, device=self._device, reporter=reporter)
        with self._lock:
            if self._features is None:
                self._features = new_array((len(self.names) + SPARE, found.values.shape[1]), copies=2)
            if len(self.names) > len(self._features):
                larger = new_array((len(self.names) + SPARE, found.values.shape[1]), copies=2)
                larger[: len(self._features)] = self._features
                self._features = larger
            self._features[places[found.indices]] = found.values
            self._ready[places[found.indices]] = True
            self.bad.update({int(places[image.index]): image.reason for image in found.bad})
            self.version += 1
        self._changed.set()

    def _review_images(self) -> None:
        self.is_reviewing = True
        with self._lock:
            ready, images = np.flatnonzero(self._ready), self.images
            features = self._features
            self.version += 1
        try:
            if features is not None:
                found = tuple(findings_of_images(images, features, ready, _PageReporter(self)))
                with self._lock:
                    self._found = found
        finally:
            with self._lock:
                self.is_reviewing = False
                self.version += 1

    def _learn(self) -> None:
        drawn_at = 0
        while True:
            self._changed.wait()
            if self._stop.is_set():
                return
            self._changed.clear()
            with self._lock:
                self.is_fitting = True
                features, ready, lesson = self._features, np.flatnonzero(self._ready), self._lesson()
                is_open, order = self._open_mask()[ready], self._order
                n_drawn = sum(row.drawn == RANDOM for row in self._marks.values() if row.label)
            if features is not None:
                found = analyse(features, ready, ready[is_open], lesson, n_drawn=n_drawn, order=order)
                with self._lock:
                    self.analysis = found
                    self._drawn = {one.id for one in found.queue if one.is_drawn}
            with self._lock:
                self.is_fitting = self._changed.is_set()
                self.version += 1
            n = len(lesson.rows)
            if features is not None and lesson.is_enough and (n >= _CURVE_GROWS * drawn_at or n < drawn_at):
                points = draw_curve(features, lesson, lambda: self._changed.is_set() or self._stop.is_set())
                if points is not None:
                    advice, drawn_at = advice_of(points), n
                    with self._lock:
                        self.curve, self.advice = points, advice
                        self.version += 1

    def _lesson(self) -> Lesson:
        """The labels of persons, in their order, of images whose features are there; of copies one."""
        rows = [
            (ready[0], row)
            for digest, row in self.journal.labelling.images.items()
            if row.label
            and row.source != MACHINE
            and row.state != EXCLUDED
            and (ready := [i for i in self._places.get(digest, ()) if self._ready[i]])
        ]
        if len(rows) > MOST_LEARNED:
            rows = [rows[i] for i in sorted(np.random.default_rng(0).permutation(len(rows))[:MOST_LEARNED])]
        names = tuple(self.journal.labelling.classes)
        code = {name: k for k, name in enumerate(names)}
        return Lesson(
            rows=np.array([place for place, _ in rows], np.int64),
            labels=np.array([code[row.label] for _, row in rows], np.int64),
            digests=np.array([bytes.fromhex(row.digest) for _, row in rows], "S16"),
            is_drawn=np.array([row.drawn == RANDOM for _, row in rows], bool),
            class_names=names,
        )

    def _training(self) -> None:
        def tell(**values: Any) -> None:
            with self._lock:
                self.training = {**(self.training or {}), **values}
                self.version += 1

        try:
            if self._train is None:
                raise DataError("This page can't train.")
            self.run = self._train(_PageReporter(self, tell))
        except Stopped:
            tell(state="failed", error="It was stopped.")
        except TopworkError as error:
            tell(state="failed", error=str(error))
        except Exception as error:  # a thread that ends must not end without a word
            tell(state="failed", error=f"A mistake in Topwork: {type(error).__name__}: {error}.")
        else:
            tell(state="done", share=1.0, run=printable(str(self.run)), report="/report")


class _PageReporter(Reporter):
    """Tells a training's steps to the page, and ends what runs where the session ends."""

    def __init__(self, session: Session, tell: Callable[..., None] = lambda **_: None) -> None:
        self._session = session
        self._tell = tell

    @contextlib.contextmanager
    def task(self, title: str, total: int, unit: str, *, done: int = 0) -> Iterator[Task]:
        session, tell = self._session, self._tell

        class PageTask(Task):
            def advance(self, n: int = 1) -> None:
                super().advance(n)
                if session._stop.is_set():
                    raise Stopped
                tell(
                    step=f"{title}: {self.done:,} of {counted(self.total, unit.removesuffix('s'))}",
                    share=self.done / max(1, self.total),
                )

        yield PageTask(total, done)

    def warning(self, text: str) -> None:
        self._session._say(text)


def class_name(text: str) -> str:
    """A class name as it is kept.

    Raises:
        OptionError: it is empty, very long, or has characters that can't be seen.
    """
    name = normal_form(text) if isinstance(text, str) else ""
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise OptionError(f"Expected a class name of 1 to {LONGEST_NAME} visible characters; got {str(text)[:50]!r}.")
    return name


def _wants_label(row: JournalRow) -> bool:
    return not row.label and row.state in (OPEN, KEPT)


def _mask(n: int, places: Iterable[int]) -> Any:
    """`(n,)` booleans, true at these places."""
    result = np.zeros(n, bool)
    result[list(places)] = True
    return result


def _padded(values: Any, n: int, fill: float) -> Any:
    """`(n,)`: images that came after the analysis have none."""
    result = np.full(n, fill, values.dtype)
    result[: min(n, len(values))] = values[:n]
    return result

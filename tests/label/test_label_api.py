"""The page's requests: what is saved, chosen, found and refused."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers import COLOURS, make_photo
from topwork.data.dataset import ImageDataset
from topwork.errors import StorageError
from topwork.label import session
from topwork.label.analysis import DRAWN


def picture(seed: int = 1) -> bytes:
    file = io.BytesIO()
    make_photo(COLOURS["ash"], 9000 + seed).save(file, "JPEG")
    return file.getvalue()


def test_an_answer_is_in_the_journal_when_it_is_acknowledged(unlabelled: Path, opened: Callable[..., Any]) -> None:
    with opened(unlabelled, ready=False) as page:
        assert page.post("/api/label", items=[{"id": 3, "label": "ash"}])["saved"] == 1
        last = page.rows()[-1]
        assert (last.file, last.label, last.source) == (page.session.names[3], "ash", "person")
        state = page.get("/api/state")
        assert state["classes"] == [{"name": "ash", "person": 1, "machine": 0}]
        assert (state["labelled"], state["can_undo"], state["images"]) == (1, True, 60)


def test_labels_teach_and_the_page_tells_how_well(unlabelled: Path, opened: Callable[..., Any]) -> None:
    with opened(unlabelled) as page:
        page.label_all(6)
        state = page.wait(lambda state: state["estimate"] and state["curve"] and not state["fitting"])
        assert state["estimate"]["images"] == 18
        assert state["estimate"]["low"] <= state["estimate"]["accuracy"] <= state["estimate"]["high"]
        assert state["curve"][-1][0] == 18
        unknown = page.get("/api/gallery", labelled="no", order="class", n=60)
        assert unknown["total"] == 42
        right = [item["name"].startswith(item["predicted"]) for item in unknown["items"]]
        assert sum(right) > 35


def test_what_goes_wrong_while_learning_is_said_and_learning_goes_on(
    unlabelled: Path, opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = session.analyse

    def wrong(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(session, "analyse", right)
        raise ZeroDivisionError("of the test")

    with opened(unlabelled) as page:
        monkeypatch.setattr(session, "analyse", wrong)
        page.label_all(3)
        page.wait(lambda state: "A mistake in Topwork: ZeroDivisionError" in (state["message"] or ""))
        page.label_all(6)
        assert page.wait(lambda state: state["estimate"] and not state["fitting"])["estimate"]["images"] == 18


def test_what_is_next_is_open_and_partly_drawn_by_chance(unlabelled: Path, opened: Callable[..., Any]) -> None:
    with opened(unlabelled) as page:
        for _ in range(2 * DRAWN + 2):
            item = page.get("/api/next", n=60)["items"][0]  # what is offered only, far behind, is not drawn by chance
            assert item["label"] is None
            page.post("/api/label", items=[{"id": item["id"], "label": item["name"].split("-")[0]}])
            page.wait(lambda state: not state["fitting"])
        assert sum(row.drawn == "random" for row in page.rows()) == 2
        page.wait(lambda state: state["estimate"] and state["estimate"]["random_images"] == 2)


def test_skipped_and_excluded_images_are_not_asked_for(unlabelled: Path, opened: Callable[..., Any]) -> None:
    with opened(unlabelled) as page:
        ids = [item["id"] for item in page.get("/api/next", n=4)["items"]]
        page.post("/api/skip", ids=ids[:2])
        page.post("/api/exclude", ids=ids[2:])
        assert not {item["id"] for item in page.get("/api/next", n=60)["items"]} & set(ids)
        state = page.get("/api/state")
        assert (state["skipped"], state["excluded"]) == (2, 2)


def test_undo_takes_back_one_action_after_another(unlabelled: Path, opened: Callable[..., Any]) -> None:
    with opened(unlabelled) as page:
        page.post("/api/label", items=[{"id": 0, "label": "ash"}, {"id": 1, "label": "ash"}])
        page.post("/api/label", items=[{"id": 0, "label": "birch"}])
        assert [item["label"] for item in page.post("/api/undo")["undone"]] == ["ash"]
        assert [entry["name"] for entry in page.get("/api/state")["classes"]] == ["ash"]
        assert {item["id"] for item in page.post("/api/undo")["undone"]} == {0, 1}
        assert page.post("/api/undo")["undone"] == []
        assert page.get("/api/state")["labelled"] == 0


def test_classes_are_made_renamed_and_merged(unlabelled: Path, opened: Callable[..., Any]) -> None:
    with opened(unlabelled) as page:
        for name in ("ash", "brich", "cedar"):
            page.post("/api/classes", do="add", name=name)
        page.post("/api/label", items=[{"id": 0, "label": "brich"}, {"id": 1, "label": "cedar"}])
        page.post("/api/classes", do="rename", name="brich", to="birch")
        assert [entry["name"] for entry in page.get("/api/state")["classes"]] == ["ash", "birch", "cedar"]
        page.post("/api/classes", do="merge", name="cedar", to="birch")
        assert page.get("/api/state")["classes"][1] == {"name": "birch", "person": 2, "machine": 0}
        page.post("/api/undo")
        assert page.get("/api/gallery", labelled="yes")["items"][1]["label"] == "cedar"
        assert "already" in page.post("/api/classes", 400, do="rename", name="ash", to="birch")["error"]
        assert "There is no class" in page.post("/api/classes", 400, do="merge", name="ash", to="oak")["error"]
        assert "already" in page.post("/api/classes", 400, do="add", name="ash ")["error"]


def test_accepted_predictions_are_marked_as_the_machines(unlabelled: Path, opened: Callable[..., Any]) -> None:
    with opened(unlabelled) as page:
        page.label_all(8)
        page.wait(lambda state: state["estimate"] and not state["fitting"])
        shown = page.post("/api/accept", **{"class": "ash", "above": 0.5, "preview": True})
        ids = [item["id"] for item in shown["items"]]
        assert shown["total"] == len(ids) > 5
        assert page.post("/api/accept", **{"class": "ash", "above": 0.5, "ids": ids[1:]})["saved"] == len(ids) - 1
        assert {row.source for row in page.rows()[-len(ids) + 1 :]} == {"machine"}
        ash = page.get("/api/state")["classes"][0]
        assert ash == {"name": "ash", "person": 8, "machine": len(ids) - 1}
        assert page.post("/api/accept", **{"class": "oak", "above": 0.5, "preview": True})["total"] == 0


def test_review_finds_what_was_planted_and_keeps_decisions(unlabelled: Path, opened: Callable[..., Any]) -> None:
    shutil.copy(unlabelled / "ash-0.png", unlabelled / "ash-99.png")
    Image.new("L", (48, 40), 255).save(unlabelled / "birch-98.png")
    with opened(unlabelled, review=True) as page:
        page.label_all(60)
        wrong = page.session.names.index("ash-3.jpg")
        page.post("/api/label", items=[{"id": wrong, "label": "cedar"}])
        page.wait(lambda state: state["estimate"] and not state["fitting"] and not state["reviewing"])
        found = {entry["kind"]: entry for entry in page.get("/api/review")["items"]}
        label = found.get("label issue") or found["sure mistake"]
        assert (label["items"][0]["id"], label["given"], label["likely"]) == (wrong, "cedar", "ash")
        assert {item["name"] for item in found["copy"]["items"]} == {"ash-0.png", "ash-99.png"}
        page.post("/api/review", key=label["key"], do="relabel", label="ash", ids=[wrong])
        page.post("/api/review", key=found["copy"]["key"], do="keep")
        page.wait(lambda state: not state["fitting"])
        keys = [entry["key"] for entry in page.get("/api/review")["items"]]
        assert not {found["copy"]["key"], label["key"]} & set(keys)
        page.post("/api/review", key="gone:7", do="exclude", ids=[7])
        assert [item["id"] for item in page.post("/api/undo")["undone"]] == [7]
        page.wait(lambda state: not state["fitting"])
        assert page.client.get(f"/api/state?after={page.get('/api/state')['version']}").status_code == 204
        assert "no longer there" in page.post("/api/review", 400, key="copy:0,1", do="keep")["error"]


def test_a_picture_of_the_camera_is_kept_in_the_folder(unlabelled: Path, opened: Callable[..., Any]) -> None:
    with opened(unlabelled) as page:
        answer = page.client.post("/api/camera?label=ash", content=picture(), headers={"Content-Type": "image/jpeg"})
        assert answer.json()["id"] == 60
        assert len(list((unlabelled / "camera").iterdir())) == 1
        assert page.rows()[-1].source == "camera"
        page.wait(lambda state: state["ready"] == 61)
        again = page.client.post("/api/camera?label=ash", content=picture())
        assert again.json()["id"] == 60
        assert page.client.post("/api/camera?label=ash", content=b"no picture").status_code == 422
        assert page.client.post("/api/camera?label=", content=picture(2)).status_code == 400
        assert page.get("/api/like", id=60, n=5)["items"][0]["name"].startswith("ash")


def test_pictures_come_small_for_whoever_has_the_token(unlabelled: Path, opened: Callable[..., Any]) -> None:
    with opened(unlabelled, ready=False) as page:
        small = page.client.get("/image/0?side=20")
        assert max(Image.open(io.BytesIO(small.content)).size) == 20
        assert (
            page.client.get("/image/0?side=20&token=correct-token", headers={"X-Topwork-Token": ""}).status_code == 403
        )
        assert page.client.get("/image/99").status_code == 400


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"X-Topwork-Token": "wrong"}, "no valid token"),
        ({"X-Topwork-Token": ""}, "no valid token"),
        ({"Host": "evil.example"}, "answers to localhost"),
        ({"Origin": "http://evil.example"}, "another site"),
        ({"Origin": "null"}, "another site"),
        ({"Origin": "http://127.0.0.1:9"}, "another site"),
    ],
)
def test_others_are_refused(
    unlabelled: Path, opened: Callable[..., Any], headers: dict[str, str], message: str
) -> None:
    with opened(unlabelled, ready=False) as page:
        for answer in (
            page.client.get("/api/state", headers=headers),
            page.client.post("/api/label", json={"items": [{"id": 0, "label": "x"}]}, headers=headers),
        ):
            assert answer.status_code in (403, 421)
            assert message in answer.json()["error"]
        assert page.rows() == []


def test_the_page_loads_without_a_token_and_nothing_else_does(unlabelled: Path, opened: Callable[..., Any]) -> None:
    with opened(unlabelled, ready=False) as page:
        page.client.headers.clear()
        assert page.client.get("/").status_code == 200
        assert "default-src 'self'" in page.client.get("/page.js").headers["content-security-policy"]
        for path in ("/session.py", "/..%2fapp.py", "/%2e%2e/app.py", "/none.js", "/page/page.js"):
            assert page.client.get(path).status_code == 404
        assert page.client.get("/report").status_code == 403
        assert page.client.get("/try/").status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("label", b"{"),
        ("label", b"[]"),
        ("label", b'{"items": 3}'),
        ("label", b'{"items": [{"id": "0", "label": "x"}]}'),
        ("label", b'{"items": [{"id": true, "label": "x"}]}'),
        ("label", b'{"items": [{"id": 60, "label": "x"}]}'),
        ("label", b'{"items": [{"id": 0, "label": ""}]}'),
        ("label", b'{"items": [{"id": 0, "label": "a\\nb"}]}'),
        ("label", b'{"items": [{"id": 0, "label": "\\ud800"}]}'),
        ("label", b'{"items": [{"id": 0, "label": 7}]}'),
        ("label", b'{"items": [{"id": 0, "label": "a"}, {"id": 0, "label": "b"}]}'),
        ("skip", b"{}"),
        ("exclude", b'{"ids": [-1]}'),
        ("classes", b'{"do": "drop", "name": "x"}'),
        ("classes", b'{"do": "add", "name": ["x"]}'),
        ("classes", b'{"do": "rename", "name": "x", "to": null}'),
        ("accept", b'{"class": "x", "above": "high"}'),
        ("accept", b'{"class": "x", "above": NaN}'),
        ("review", b'{"do": "keep"}'),
    ],
)
def test_malformed_requests_change_nothing(
    unlabelled: Path, opened: Callable[..., Any], path: str, body: bytes
) -> None:
    with opened(unlabelled, ready=False) as page:
        answer = page.client.post(f"/api/{path}", content=body)
        assert answer.status_code == 400
        assert answer.json()["error"].endswith(".")
        assert page.rows() == []


@pytest.mark.parametrize(
    "path", ["next?n=x", "gallery?order=size", "gallery?from=-1", "like", "like?id=1e9", "nothing"]
)
def test_malformed_questions_are_answered_in_words(unlabelled: Path, opened: Callable[..., Any], path: str) -> None:
    with opened(unlabelled, ready=False) as page:
        answer = page.client.get(f"/api/{path}")
        assert answer.status_code in (400, 404)
        assert answer.json()["error"]


def test_labels_are_there_again_after_a_restart(unlabelled: Path, opened: Callable[..., Any]) -> None:
    with opened(unlabelled) as page:
        page.label_all(6)
    (unlabelled / "ash-0.png").rename(unlabelled / "zzz-0.png")
    with opened(unlabelled, ready=False) as page:
        assert page.get("/api/state")["labelled"] >= 17
        state = page.wait(lambda state: state["labelled"] == 18 and state["curve"])
        assert state["estimate"]["images"] == 18
        assert page.get("/api/gallery", labelled="yes", **{"class": "ash"})["items"][-1]["name"] == "zzz-0.png"


def test_hostile_names_are_harmless_and_unreadable_images_are_counted(
    unlabelled: Path, opened: Callable[..., Any]
) -> None:
    (unlabelled / "two\nlines.png").write_bytes(picture(3))
    (unlabelled / "=cmd|x.png").write_bytes(picture(4))
    (unlabelled / b"\xff.png".decode("utf-8", "surrogateescape")).write_bytes(picture(5))
    (unlabelled / "broken.png").write_bytes(b"no picture")
    with opened(unlabelled) as page:
        assert page.wait(lambda state: state["unreadable"] == 1)["ready"] == 63
        names = page.session.names
        hostile = [i for i, name in enumerate(names) if "-" not in name and name != "broken.png"]
        page.post("/api/label", items=[{"id": i, "label": "=HYPERLINK()"} for i in hostile])
        assert page.client.get(f"/image/{names.index('broken.png')}").status_code == 422
    with opened(unlabelled) as page:
        assert page.get("/api/state")["classes"] == [{"name": "=HYPERLINK()", "person": 3, "machine": 0}]


def test_what_fails_behind_is_told_and_labels_are_kept(
    unlabelled: Path, opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StorageError("The disk is full.")

    monkeypatch.setattr("topwork.label.session.extract_features", fail)
    with opened(unlabelled, ready=False) as page:
        assert page.wait(lambda state: state["message"])["message"] == "The disk is full."
        page.post("/api/label", items=[{"id": 0, "label": "ash"}])
        assert page.get("/api/next")["items"]


def test_a_run_is_trained_from_the_page(
    unlabelled: Path, opened: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from topwork.runs.labelling import train_on_journal

    monkeypatch.chdir(tmp_path)

    def train(reporter: Any) -> Path:
        return train_on_journal(
            unlabelled, tmp_path / "labels.csv", page.session.backbone, device="cpu", command="", reporter=reporter
        )

    with opened(unlabelled, train=train) as page:
        assert "two classes" in page.post("/api/train", 409)["error"]
        page.label_all(8)
        page.post("/api/train", 202)
        state = page.wait(lambda state: state["training"]["state"] != "running")
        assert state["training"]["error"] is None
        assert (tmp_path / state["training"]["run"] / "metrics.json").is_file()
        report = page.client.get("/report?token=correct-token")
        assert "unlabelled" in report.text
    assert len(ImageDataset.from_journal(unlabelled, tmp_path / "labels.csv")) == 24

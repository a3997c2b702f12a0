"""The endpoints that clients of clip-retrieval know."""

import base64

import pytest

from pipeline.service.shelf import Shelf
from tests.gallery.making import unit_vectors
from tests.service.asking import client, message
from tests.service.making import plain_gallery

VECTOR = unit_vectors([4])[0].tolist()


@pytest.fixture
def asked(tmp_path):
    galleries = [plain_gallery(tmp_path / name, range(9)) for name in ("yard", "gate")]
    return client(Shelf([each.location for each in galleries]))


def test_what_its_client_sends_is_answered(asked):
    body = {
        "text": None, "image": None, "image_url": None, "embedding_input": VECTOR,
        "deduplicate": True, "use_safety_model": True, "use_violence_detector": True,
        "indice_name": "gate",
        "use_mclip": False, "aesthetic_score": 9, "aesthetic_weight": 0.5, "modality": "image",
        "num_images": 3, "num_result_ids": 3,
    }  # fmt: skip
    found = asked.post("/knn-service", json=body).json()
    assert len(found) == 3
    assert found[0] == {
        "id": 4, "similarity": pytest.approx(1), "path": "c1/000004.jpg", "identity": 3,
        "camera": "c1", "caption": "c1/000004.jpg",
    }  # fmt: skip
    assert found[1]["similarity"] >= found[2]["similarity"]


def test_rows_are_described_and_galleries_listed(asked):
    assert asked.get("/indices-list").json() == ["yard", "gate"]
    told = asked.post("/metadata", json={"ids": [7, 2], "indice_name": "yard"}).json()
    assert [each["id"] for each in told] == [7, 2]
    assert told[0]["metadata"]["camera"] == "c1"


def test_what_is_not_possible_here_is_said(asked):
    for body in ({"text": "a red coat"}, {"image_url": "http://x"}, {}):
        assert "reads no text, and fetches nothing" in message(
            asked.post("/knn-service", json=body), 400
        )
    wrong = {"embedding_input": VECTOR, "indice_name": "none"}
    assert "/indices-list lists the indices" in message(asked.post("/knn-service", json=wrong), 404)
    text = {"embedding_input": VECTOR, "modality": "text"}
    assert "hold images alone" in message(asked.post("/knn-service", json=text), 400)
    short = {"embedding_input": VECTOR[:3]}
    assert "features of yard have 8" in message(asked.post("/knn-service", json=short), 400)
    image = {"image": base64.b64encode(b"GIF").decode()}
    assert "has no network" in message(asked.post("/knn-service", json=image), 409)

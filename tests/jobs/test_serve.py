"""serve and explore as commands: how to get in, how they end, and what is refused at the start."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import webbrowser

import httpx
import pytest

from jobs import explore
from jobs.command.serving import read_token
from pipeline.errors import InputError
from tests.jobs.labeled import labeled_gallery, people
from tests.jobs.running import refused, run

TOKEN = "a-token-of-the-tests"


@pytest.fixture
def gallery(tmp_path):
    features, identity, camera = people(3, 20, dimension=8)
    labeled_gallery(tmp_path / "yard", features, identity, camera)
    return tmp_path / "yard"


def link_in(told):
    """How a browser gets in, once a service has told everything."""
    found = re.search(r"http://127\.0\.0\.1:\d+/enter/\S+", told)
    return found[0] if found and "ssh -L" in told else None


def enter(link):
    with httpx.Client(base_url=link.partition("/enter/")[0]) as browser:
        assert browser.get("/v1/galleries").status_code == 401
        assert browser.get(link).headers["location"] == "/"
        (found,) = browser.get("/v1/galleries").json()["galleries"]
        assert (found["gallery"], found["rows"]) == ("yard", 20)


@pytest.mark.slow
def test_a_service_is_entered_and_ended(gallery):
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.serve", "--gallery", str(gallery), "--port", "0"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={key: value for key, value in os.environ.items() if key != "REGALLERY_TOKEN"},
    )
    try:
        told = ""
        while link_in(told) is None:
            line = process.stderr.readline()
            assert line, told
            told += line
        enter(link_in(told))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert re.search(r"served yard: \d+ answers in", out)
    assert "Traceback" not in err


def test_explore_is_entered_and_ended_by_ctrl_c(gallery, monkeypatch, caplog, capsys):
    """In this process, where a thread is the browser."""
    monkeypatch.delenv("REGALLERY_TOKEN", raising=False)
    entered, until = [], time.monotonic() + 60

    def visit():
        try:
            while (link := link_in(caplog.text)) is None and time.monotonic() < until:
                time.sleep(0.01)
            enter(link)
            entered.append(link)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=visit, daemon=True).start()
    status, out, err = run(capsys, "explore", "--gallery", gallery, "--no-browser")
    assert (status, len(entered)) == (0, 1), err
    assert re.search(r"served yard: \d+ answers in", out)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--host", "0.0.0.0"), "give a token, in a file (--token-file) or in REGALLERY_TOKEN"),
        (("--host", "0.0.0.0", "--no-token"), "a service there needs a token"),
        (("--port", "70000"), "--port must be from 0"),
        (("--checkpoint", "x.pth"), "--checkpoint goes with --model"),
        (("--model", "no-such-file.onnx"), "no-such-file.onnx"),
        (("--token-file", "no-such-file"), "no-such-file"),
        (("--names", "a b"), "is not the name or address"),
    ],
)
def test_what_cannot_be_served_is_told(capsys, gallery, monkeypatch, arguments, told):
    monkeypatch.delenv("REGALLERY_TOKEN", raising=False)
    assert told in refused(capsys, "serve", "--gallery", gallery, *arguments)


def test_galleries_that_are_none_are_told(capsys, tmp_path, gallery):
    assert "nothing" in refused(capsys, "serve", "--gallery", tmp_path / "nothing", "--port", 0)
    other = tmp_path / "other" / "yard"
    features, identity, camera = people(3, 5, dimension=8)
    labeled_gallery(other, features, identity, camera)
    two = ("--gallery", gallery, "--gallery", other, "--port", 0)
    assert "same folder name" in refused(capsys, "explore", *two[:4])


def test_the_token_comes_from_one_place(tmp_path, monkeypatch):
    monkeypatch.delenv("REGALLERY_TOKEN", raising=False)
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert read_token("0.0.0.0", str(file)) == TOKEN
    assert read_token("localhost", no_token=True) is None
    made = {read_token("127.0.0.1") for _ in range(3)}
    assert len(made) == 3 and all(len(each) >= 43 for each in made)
    with pytest.raises(InputError, match="does not go with a token"):
        read_token("127.0.0.1", str(file), no_token=True)
    monkeypatch.setenv("REGALLERY_TOKEN", TOKEN)
    assert read_token("0.0.0.0") == TOKEN
    assert read_token("127.0.0.1", str(file)) == TOKEN
    monkeypatch.setenv("REGALLERY_TOKEN", f"{TOKEN}2")
    with pytest.raises(InputError, match="have two tokens"):
        read_token("127.0.0.1", str(file))
    with pytest.raises(InputError, match="does not go with a token"):
        read_token("127.0.0.1", no_token=True)


def test_a_browser_is_opened_where_there_is_one(monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    explore._open("http://127.0.0.1:1")
    assert opened == []
    monkeypatch.setenv("DISPLAY", ":0")
    explore._open("http://127.0.0.1:2")
    for _ in range(100):
        if not opened:
            time.sleep(0.01)
    assert opened == ["http://127.0.0.1:2"]


def test_the_demo_of_an_adaptation_has_no_page(tmp_path, capsys):
    told = refused(capsys, "demo", "adapt", "--explore", "--out", tmp_path / "out")
    assert "--explore goes with the pipeline" in told
    assert not (tmp_path / "out").exists()

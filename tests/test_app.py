"""`make app`: which net is served, what it says when there is none, and the page."""

import http.client
import importlib
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import types
from pathlib import Path

import pytest
import serve
from conftest import ROOT, free_port, wait_for

from unet_tutorial.model import UNet
from unet_tutorial.runs.weights import save_net

PAGE = ROOT / "app" / "segment.ipynb"


def net(path, age=0):
    save_net(path, UNet(base_channels=1, depth=1))
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_the_newest_best_net_is_served(tmp_path):
    assert serve.newest_net(tmp_path) is None
    other = net(tmp_path / "runs" / "a.safetensors")
    assert serve.newest_net(tmp_path) == other
    old = net(tmp_path / "nbs" / "runs" / "old" / "best.safetensors", age=99)
    assert serve.newest_net(tmp_path) == old
    new = net(tmp_path / "build" / "course" / "x" / "best.safetensors", age=9)
    assert serve.newest_net(tmp_path) == new


def test_no_net_says_how_to_get_one(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["serve.py"])
    monkeypatch.setattr(serve, "newest_net", lambda: None)
    with pytest.raises(SystemExit, match="make course NB=14_predict"):
        serve.main()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("runs/none", "no runs.none; .* a run's folder"),
        (str(ROOT / "nbs"), "holds no best.safetensors"),
        (str(ROOT / "site" / "house.png"), "is an image"),
        (str(ROOT / "README.md"), "not a net"),
    ],
)
def test_what_is_no_net_is_refused_before_anything_starts(name, words, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["serve.py", name])
    monkeypatch.setattr(serve, "install", lambda: pytest.fail("it has begun"))
    with pytest.raises(SystemExit, match=words):
        serve.main()


def test_the_server_is_told_which_net(tmp_path, monkeypatch):
    path, asked = net(tmp_path / "n.safetensors"), {}

    def started(command, env):
        asked.update(env, command=command)
        return 0

    monkeypatch.setattr(sys, "argv", ["serve.py", str(path)])
    monkeypatch.setattr(serve.subprocess, "call", started)
    monkeypatch.setattr(serve, "install", lambda: None)
    assert serve.main() == 0
    assert asked["UNET_NET"] == str(path) and asked["UNET_MASKS"].endswith("masks")
    assert Path(asked["UNET_TURN"]).is_absolute()
    assert asked["command"][1:] == [str(ROOT / "tools" / "page.py"), str(PAGE)]


def test_the_server_is_told_another_port_and_another_folder(tmp_path, monkeypatch):
    path, asked = net(tmp_path / "n.safetensors"), {}
    monkeypatch.setattr(sys, "argv", ["serve.py", str(path), "--port=8899"])
    monkeypatch.setattr(
        serve.subprocess, "call", lambda command, env: asked.update(env, told=command)
    )
    monkeypatch.setattr(serve, "install", lambda: None)
    monkeypatch.setenv("UNET_MASKS", "mine")
    serve.main()
    assert asked["told"][-2:] == [str(PAGE), "--port=8899"]
    assert asked["UNET_MASKS"] == str(Path("mine").resolve())


def test_voila_is_an_extra_that_is_installed_once(monkeypatch):
    commands = []
    monkeypatch.setattr(serve.subprocess, "call", lambda c: commands.append(c) or 1)
    serve.install("json")  # is there
    assert not commands
    with pytest.raises(SystemExit, match="pip install voila"):
        serve.install("a_module_that_nobody_has")
    assert commands[0][1:4] == ["-m", "pip", "install"]


def test_the_page_runs(tmp_path, monkeypatch):
    pytest.importorskip("ipywidgets")
    monkeypatch.setenv("UNET_NET", str(net(tmp_path / "n.safetensors")))
    monkeypatch.setenv("UNET_MASKS", str(tmp_path / "masks"))
    cells = json.loads(PAGE.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    *lines, last = "\n".join(code).strip().splitlines()
    space = {}
    exec("\n".join([*lines, f"page = {last}"]), space)
    button = space["page"].children[0].children[0]
    assert button.accept == "image/*"


def test_the_page_has_no_outputs():
    cells = json.loads(PAGE.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)


# The server


@pytest.fixture(scope="module")
def page():  # tools/page.py; Voilà itself is not needed for it
    "The module of the server, with a stand-in for Voilà where that is missing."
    pytest.importorskip("jupyter_server")
    if importlib.util.find_spec("voila"):
        return importlib.import_module("page")
    names = {"voila": types.ModuleType("voila"), "voila.app": types.ModuleType("app")}
    names["voila.app"].Voila = object
    sys.modules.update(names)
    try:
        return importlib.import_module("page")
    finally:
        for name in names:
            del sys.modules[name]


def asked(path="/", method="GET", host="127.0.0.1:8866", **headers):
    "A request as tornado hands it over."
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    told |= {"Host": host} if host is not None else {}
    return types.SimpleNamespace(path=path, method=method, headers=told)


IMAGE = {"Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"}
VISIT = {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
FRAME = {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"}
OTHER, SAME = {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-origin"}
KERNEL = "/api/kernels/1/channels"
HERE = "http://127.0.0.1:8866"
ANSWERED = {
    "the page": asked(),
    "the page by name": asked(host="localhost:8866"),
    "the page by number": asked(host="[::1]:8866"),
    "a link to the page": asked(**OTHER, **VISIT),
    "its script": asked("/voila/static/voila.js", **SAME, **IMAGE),
    "its kernel": asked(KERNEL, Origin=HERE, **SAME),
    "its end": asked("/voila/api/shutdown/1", "POST", Origin=HERE),
}
REFUSED = {
    "another name": asked(host="evil.org:8866"),
    "another name at the same place": asked(
        KERNEL, host="evil.org", Origin="//evil.org"
    ),
    "a name that begins like ours": asked(host="localhost.evil.org"),
    "a name with ours in it": asked(host="127.0.0.1@evil.org"),
    "a path as a name": asked(host="127.0.0.1/evil.org"),
    "another address": asked(host="192.168.0.7:8866"),
    "half an address": asked(host="[::1"),
    "no name": asked(host=""),
    "none at all": asked(host=None),
    "another site's picture": asked(**OTHER, **IMAGE),
    "another site's frame": asked(**OTHER, **FRAME),
    "another port's picture": asked(Sec_Fetch_Site="same-site", **IMAGE),
    "another site's socket": asked(KERNEL, Origin="http://evil.org"),
    "another port's socket": asked(KERNEL, Origin="http://127.0.0.1:80"),
    "a file's socket": asked(KERNEL, Origin="null"),
    "an end by nobody": asked("/voila/api/shutdown/1", "POST"),
    "a file": asked("/voila/files/x.png"),
    "another file": asked("/README.md"),
    "a folder": asked("/voila/tree"),
    "another page": asked("/voila/render/x.ipynb"),
    "the kernels": asked("/api/kernels"),
    "the contents": asked("/voila/api/contents/"),
    "another's login": asked("/login"),
}


@pytest.mark.parametrize("request_", ANSWERED)
def test_what_the_server_answers(page, request_):
    assert page.fault(ANSWERED[request_]) is None


@pytest.mark.parametrize("request_", REFUSED)
def test_what_the_server_refuses(page, request_):
    assert page.fault(REFUSED[request_])


def test_what_the_server_is_told(page):
    told = page.config()
    assert told.Voila.ip == "127.0.0.1"
    assert told.VoilaConfiguration.file_denylist == [".*"]
    assert 0 < told.FewKernels.cull_idle_timeout <= 600
    assert told.FewKernels.cull_connected is False
    assert told.VoilaConfiguration.multi_kernel_manager_class is page.FewKernels


@pytest.fixture
def server(tmp_path):
    "The real server with a page that computes nothing; (port, a function that asks)."
    if not importlib.util.find_spec("voila"):
        pytest.skip("voila is not installed: make app installs it")
    cells = json.loads(PAGE.read_text(encoding="utf-8"))
    cells["cells"] = cells["cells"][:1]
    (tmp_path / "page.ipynb").write_text(json.dumps(cells), encoding="utf-8")
    (tmp_path / "secret.png").write_bytes(b"secret")
    open_to_all = {"Voila": {"ip": "0.0.0.0"}}  # the user's own settings
    (tmp_path / "voila.json").write_text(json.dumps(open_to_all), encoding="utf-8")
    port = free_port()
    command = [sys.executable, str(ROOT / "tools" / "page.py"), "page.ipynb"]
    command += ["--no-browser", f"--port={port}", "--Voila.port_retries=0"]
    env = dict(os.environ, JUPYTER_CONFIG_DIR=str(tmp_path))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen(command, cwd=tmp_path, env=env, **quiet)

    def ask(path="/", method="GET", **headers):
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        line.request(method, path, headers=told)
        answer = line.getresponse()
        return answer.status, b"" if answer.status == 101 else answer.read()

    def ready():
        assert child.poll() is None, "the server did not start"
        with socket.socket() as line:
            return line.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(ready)
        yield port, ask
    finally:
        child.terminate()
        child.wait(120)


def test_the_real_server(server):
    port, ask = server
    status, body = ask()
    assert status == 200 and b"Segment an image" in body
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", port), 5)
    kernel = re.search(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", body)[0].decode()
    here, socket_ = f"http://127.0.0.1:{port}", f"/api/kernels/{kernel}/channels"
    web = {"Upgrade": "websocket", "Connection": "Upgrade"}
    web |= {
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    assert ask(socket_, Origin=here, **web)[0] == 101
    evil = {"Host": f"evil.org:{port}", "Origin": f"http://evil.org:{port}"}
    assert ask(socket_, **evil, **web)[0] == 403
    assert ask(socket_, Origin="http://evil.org", **web)[0] == 403
    for path in ("/secret.png", "/voila/files/secret.png", "/page.ipynb"):
        assert ask(path)[0] == 403
    assert [ask()[0] for _ in range(4)] == [200, 200, 200, 503]
    assert ask(f"/voila/api/shutdown/{kernel}", "POST", Origin=here)[0] == 204
    assert ask(f"/api/kernels/{kernel}")[0] == 404
    assert ask()[0] == 200

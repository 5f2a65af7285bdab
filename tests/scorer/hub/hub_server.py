"""A real HTTP server on loopback that answers as the Hugging Face hub does: look up, download, create, commit, LFS."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from scorer.hub.names import HubName

TOKEN = "hf_very_secret_token"
NAME = HubName("user/tiny")

Files = dict[str, bytes]


@dataclass
class Repository:
    """Commits by hash, and branches."""

    private: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Files, branch: str = "main") -> str:
        """Add a commit and return its hash."""
        number = sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[number] = dict(files)
        self.branches[branch] = number
        return number

    def find(self, revision: str) -> str | None:
        """Return the commit that a revision names."""
        found = self.branches.get(revision, revision)
        return found if found in self.commits else None


class HubServer(ThreadingHTTPServer):
    """The hub: ``repositories`` by name, every ``asked`` (method, path) with its token, who may write (``token``)."""

    daemon_threads = True

    def __init__(self, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token = token
        self.repositories: dict[str, Repository] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        self.lfs: dict[str, bytes] = {}
        self.size_said: dict[str, int] = {}
        self.answer_commit: str | None = None
        self.faults: dict[str, tuple[int, str]] = {}
        """What is answered instead, by the beginning of a path."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def paths(self, method: str = "GET") -> list[str]:
        """Return what was asked for."""
        return [path for how, path, _ in self.asked if how == method]


@contextmanager
def serving(token: str = "hf_test_secret_token") -> Iterator[HubServer]:
    """Run the hub until the end of the context."""
    server = HubServer(token)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def answer(self, status: int, body: Any = b"", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def missing(self, code: str) -> None:
        self.answer(404, {"error": code}, X_Error_Code=code, X_Error_Message=code)

    def note(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append((self.command, path, self.headers.get("Authorization")))
        return path

    def failing(self, path: str) -> bool:
        for beginning, (status, text) in self.server.faults.items():
            if path.startswith(beginning):
                self.answer(status, {"error": text}, X_Error_Message=text)
                return True
        return False

    def may(self, repository: Repository) -> bool:
        return not repository.private or self.headers.get("Authorization") == f"Bearer {self.server.token}"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.note()
        if self.failing(path):
            return
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self.look_up(found[1], found[2] or "main")
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.download(*found.groups())
        elif path == "/api/whoami-v2":
            self.answer(200, {"name": "user", "type": "user", "auth": {}})
        else:
            self.answer(404, {"error": path})

    def look_up(self, name: str, revision: str) -> None:
        repository = self.server.repositories.get(name)
        if repository is None or not self.may(repository):
            self.missing("RepoNotFound")
        elif (commit := repository.find(revision)) is None:
            self.missing("RevisionNotFound")
        else:
            siblings = [
                {
                    "rfilename": file,
                    "size": self.server.size_said.get(file, len(data)),
                    "blobId": sha1(data).hexdigest(),
                }
                for file, data in repository.commits[commit].items()
            ]
            number = commit if self.server.answer_commit is None else self.server.answer_commit
            self.answer(200, {"id": name, "modelId": name, "sha": number, "private": False, "siblings": siblings})

    def download(self, name: str, revision: str, file: str) -> None:
        repository = self.server.repositories.get(name)
        commit = repository.find(revision) if repository and self.may(repository) else None
        if repository is None or commit is None:
            self.missing("RepoNotFound")
        elif file not in repository.commits[commit]:
            self.missing("EntryNotFound")
        else:
            data = repository.commits[commit][file]
            self.answer(200, data, ETag=f'"{sha256(data).hexdigest()}"', X_Repo_Commit=commit)

    def do_PUT(self) -> None:
        path = self.note()
        self.server.lfs[path.rpartition("/")[2]] = self.body()
        self.answer(200)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_POST(self) -> None:
        path, raw = self.note(), self.body()
        if self.failing(path):
            return
        if path == "/api/validate-yaml":
            text = json.loads(raw)["content"]
            header = yaml.safe_load(text.split("---\n")[1]) if text.startswith("---\n") else None
            self.answer(200, {"errors": [], "warnings": [] if header else [{"message": "empty metadata"}]})
        elif self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self.answer(401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            given = json.loads(raw)
            name = "/".join(filter(None, (given.get("organization") or "user", given["name"])))
            known = name in self.server.repositories
            self.server.repositories.setdefault(
                name, Repository(given.get("private") or given.get("visibility") == "private")
            )
            self.answer(409 if known else 200, {"url": f"{self.server.url}/{name}", "name": name})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/(.+)", path):
            files = [
                {**item, "uploadMode": "lfs" if item["path"].endswith(".onnx") else "regular", "shouldIgnore": False}
                for item in json.loads(raw)["files"]
            ]
            self.answer(200, {"files": files})
        elif path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**item, "actions": {"upload": {"href": f"{self.server.url}/lfs/{item['oid']}", "header": {}}}}
                for item in json.loads(raw)["objects"]
            ]
            self.answer(200, {"transfer": "basic", "objects": objects})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/(.+)", path):
            self.take(found[1], found[2], raw)
        else:
            self.answer(404, {"error": path})

    def take(self, name: str, branch: str, raw: bytes) -> None:
        repository = self.server.repositories[name]
        before = repository.find(branch)
        files = dict(repository.commits[before]) if before else {".gitattributes": b""}
        for line in map(json.loads, raw.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.lfs[value["oid"]]
        commit = repository.commit(files, branch)
        self.answer(200, {"commitUrl": f"{self.server.url}/{name}/commit/{commit}", "commitOid": commit})

"""A Hub of a few repositories on a local port: the routes that huggingface_hub uses to read, create and commit."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_right"


@dataclass
class Repository:
    """Files per commit, commits per revision."""

    commits: dict[str, dict[str, bytes]]
    revisions: dict[str, str]
    gated: bool = False
    private: bool = False


@dataclass
class FakeHub:
    """``requests`` lists every request as ``"METHOD /path"``; ``status`` makes every answer that error."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    status: int | None = None
    address: str = ""

    def add(self, name: str, files: dict[str, bytes], **flags: bool) -> str:
        """A repository with one commit on ``main``; returns the commit."""
        commit = commit_of(name, files)
        self.repositories[name] = Repository({commit: files}, {"main": commit}, **flags)
        return commit

    def push(self, name: str, files: dict[str, bytes], revision: str = "main") -> str:
        """One more commit on a revision of a repository."""
        commit = commit_of(name + revision, files)
        self.repositories[name].commits[commit] = files
        self.repositories[name].revisions[revision] = commit
        return commit

    def fetched(self) -> list[str]:
        """The names of the files that were read, sorted."""
        reads = [entry for entry in self.requests if entry.startswith("GET") and "/resolve/" in entry]
        return sorted(entry.split("/", 5)[5] for entry in reads)

    def start(self) -> ThreadingHTTPServer:
        hub = self

        class Handler(FakeHubHandler):
            state = hub

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.address = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return server


def commit_of(name: str, files: dict[str, bytes]) -> str:
    """A name of 40 hexadecimal digits that follows from the content."""
    digest = hashlib.sha1(name.encode())
    for path in sorted(files):
        digest.update(path.encode() + files[path])
    return digest.hexdigest()


class FakeHubHandler(BaseHTTPRequestHandler):
    state: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.state.requests.append(f"{self.command} {path}")
        if self.state.status is not None:
            return self.answer(self.state.status, b"{}")
        if path.startswith("/api/models/"):
            name, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            return self.model_info(name, revision or "main")
        if "/resolve/" in path:
            name, _, place = path.strip("/").partition("/resolve/")
            revision, _, file = place.partition("/")
            return self.resolve(name, revision, file)
        return self.error(404, "EntryNotFound")

    def do_POST(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.state.requests.append(f"POST {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.error(401, None)
        if path == "/api/validate-yaml":
            return self.answer_json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        name, _, action = path.removeprefix("/api/models/").rpartition("/")
        if name.endswith("/branch"):
            name = name.removesuffix("/branch")
            self.state.repositories[name].revisions[action] = self.state.repositories[name].revisions["main"]
            return self.answer_json({})
        if name.endswith("/preupload"):
            files = json.loads(body)["files"]
            return self.answer_json(
                {"files": [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in files]}
            )
        if name.endswith("/commit"):
            return self.commit(name.removesuffix("/commit"), action, body)
        return self.error(404, "EntryNotFound")

    def model_info(self, name: str, revision: str) -> None:
        repository = self.allowed(name)
        if repository is None:
            return None
        commit = repository.revisions.get(revision, revision)
        if commit not in repository.commits:
            return self.error(404, "RevisionNotFound")
        siblings = [{"rfilename": file} for file in repository.commits[commit]]
        return self.answer_json({"id": name, "modelId": name, "sha": commit, "siblings": siblings, "private": False})

    def resolve(self, name: str, revision: str, file: str) -> None:
        repository = self.allowed(name)
        if repository is None:
            return None
        if repository.gated:
            return self.error(403, "GatedRepo")
        commit = repository.revisions.get(revision, revision)
        if commit not in repository.commits:
            return self.error(404, "RevisionNotFound")
        content = repository.commits[commit].get(file)
        if content is None:
            return self.error(404, "EntryNotFound", commit)
        return self.answer(200, content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit})

    def allowed(self, name: str) -> Repository | None:
        repository = self.state.repositories.get(name)
        token = self.headers.get("Authorization")
        if token not in (None, f"Bearer {TOKEN}"):
            self.error(401, None, message="Invalid credentials in Authorization header")
        elif repository is None or (repository.private and token is None):
            self.error(401 if token is None else 404, "RepoNotFound")
        else:
            return repository
        return None

    def create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        if name in self.state.repositories:
            return self.answer_json({"error": "exists", "url": f"{self.state.address}/{name}"}, status=409)
        self.state.add(name, {}, private=wanted.get("private") or wanted.get("visibility") == "private")
        return self.answer_json({"url": f"{self.state.address}/{name}", "id": name})

    def commit(self, name: str, revision: str, body: bytes) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        commit = self.state.push(name, files, revision)
        answer = {"success": True, "commitOid": commit, "commitUrl": f"{self.state.address}/{name}/commit/{commit}"}
        if "create_pr=1" in self.path:
            answer["pullRequestUrl"] = f"{self.state.address}/{name}/discussions/1"
        self.answer_json(answer)

    def error(self, status: int, code: str | None, commit: str | None = None, message: str = "refused") -> None:
        headers = {"X-Error-Message": message}
        if code is not None:
            headers["X-Error-Code"] = code
        if commit is not None:
            headers["X-Repo-Commit"] = commit
        self.answer(status, b"{}", headers)

    def answer_json(self, value: Any, status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

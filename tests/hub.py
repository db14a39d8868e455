"""A double of the Hugging Face hub: repositories in memory, where its client looks for them."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c" * 40


class Hub(ThreadingHTTPServer):
    """Files by repository, uploads that belong to none yet, and what was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.uploads: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.refuses = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def hub() -> Iterator[Hub]:
    """Yields a hub that answers until the block ends."""
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *arguments: Any) -> None:
        """Says nothing."""

    def _read(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, body: bytes | Any, status: int = 200, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self) -> None:
        self.server.asked.append(f"POST {self.path}")
        body = self._read()
        if self.server.refuses:
            self._answer({"error": "no"}, 401, X_Error_Message="Invalid credentials")
        elif self.path == "/api/repos/create":
            told = json.loads(body)
            name = (
                f"{told['organization']}/{told['name']}"
                if told.get("organization")
                else told["name"]
            )
            self.server.repositories.setdefault(name, {})
            self._answer({"url": f"{self.server.address}/{name}", "name": name})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            modes = [_mode(file["path"]) for file in files]
            self._answer({"files": modes})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {"oid": o["oid"], "size": o["size"], "authenticated": True,
                 "actions": {"upload": {"href": f"{self.server.address}/upload/{o['oid']}"}}}
                for o in json.loads(body)["objects"]
            ]  # fmt: skip
            self._answer({"transfer": "basic", "objects": objects})
        elif "/commit/" in self.path:
            self._commit(body)
        else:
            self._answer({"error": self.path}, 404)

    def _commit(self, body: bytes) -> None:
        found = re.match(r"/api/models/(.+)/commit/", self.path)
        assert found is not None
        files = self.server.repositories[found[1]]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.uploads[value["oid"]]
        url = f"{self.server.address}/{found[1]}/commit/{COMMIT}"
        self._answer({"commitUrl": url, "commitOid": COMMIT, "success": True})

    def do_PUT(self) -> None:
        content = self._read()
        self.server.uploads[hashlib.sha256(content).hexdigest()] = content
        self._answer(b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        if (
            found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/[^/]+)?", path)
        ) is not None:
            files = self.server.repositories.get(found[1])
            if files is None:
                self._answer({"error": "no"}, 404, X_Error_Code="RepoNotFound")
                return
            siblings = [{"rfilename": name} for name in files]
            self._answer({"id": found[1], "modelId": found[1], "sha": COMMIT, "siblings": siblings})
        elif (found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/]+/?", path)) is not None:
            self._answer([
                {"type": "file", "path": name, "size": len(content), "oid": _git(content)}
                for name, content in self.server.repositories[found[1]].items()
            ])  # fmt: skip
        elif (found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)) is not None:
            content = self.server.repositories[found[1]][found[2]]
            self._answer(content, ETag=f'"{_git(content)}"', X_Repo_Commit=COMMIT)
        else:
            self._answer({"error": path}, 404)


def _mode(path: str) -> dict[str, Any]:
    kind = "lfs" if path.endswith("tensors") else "regular"
    return {"path": path, "uploadMode": kind, "shouldIgnore": False, "oid": None}


def _git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

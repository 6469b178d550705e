"""A Hugging Face Hub on this machine: as much of its web interface as a small model needs."""

import base64
import hashlib
import http.server
import json
import threading
from typing import Any
from urllib.parse import unquote, urlsplit


class FakeHub:
    """Keeps repositories in memory, each with one branch, `main`.

    Attributes:
        url: of the server.
        repositories: "OWNER/NAME" -> path -> content.
        tokens: value of the header `Authorization` of every request that writes.
    """

    def __init__(self) -> None:
        """Starts to serve."""
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.tokens: list[str | None] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stops."""
        self._server.shutdown()
        self._server.server_close()

    def commit_of(self, name: str) -> str:
        """Returns what names the state of a repository."""
        digest = hashlib.sha1(name.encode())
        for path, content in sorted(self.repositories[name].items()):
            digest.update(path.encode() + content)
        return digest.hexdigest()

    def write(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Returns status and answer of a request that writes."""
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.repositories.setdefault(name, {})
            return 200, {"url": f"{self.url}/{name}", "name": name, "id": name}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        _, _, _, owner, short, verb, _ = path.split("/")
        name = f"{owner}/{short}"
        if name not in self.repositories:
            return 404, {"error": "Repository not found"}
        if verb == "preupload":
            names = [file["path"] for file in json.loads(body)["files"]]
            return 200, {
                "files": [
                    {"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names
                ]
            }
        for line in body.splitlines():
            item = json.loads(line)
            if item["key"] == "file":
                content = base64.b64decode(item["value"]["content"])
                self.repositories[name][item["value"]["path"]] = content
        commit = self.commit_of(name)
        return 200, {"commitUrl": f"{self.url}/{name}/commit/{commit}", "commitOid": commit}

    def read(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Returns status, content and headers of a request that reads."""
        parts = path.strip("/").split("/")
        is_api = parts[0] == "api"
        name = "/".join(parts[2:4] if is_api else parts[:2])
        if name not in self.repositories:
            return 404, b"", {"X-Error-Code": "RepoNotFound"}
        files, commit = self.repositories[name], self.commit_of(name)
        if is_api and "tree" in parts:
            rows = [{"type": "file", "path": p, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                    for p, c in files.items()]  # fmt: skip
            return 200, json.dumps(rows).encode(), {}
        if is_api:
            siblings = [{"rfilename": p} for p in files]
            about = {"id": name, "modelId": name, "sha": commit, "siblings": siblings,
                     "private": False, "tags": [], "downloads": 0, "likes": 0}  # fmt: skip
            return 200, json.dumps(about).encode(), {}
        content = files[parts[4]]
        etag = hashlib.sha1(content).hexdigest()
        return 200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": commit}

    def _handler(hub) -> type[http.server.BaseHTTPRequestHandler]:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for key, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def do_GET(self) -> None:
                self.answer(*hub.read(unquote(urlsplit(self.path).path)))

            do_HEAD = do_GET

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hub.tokens.append(self.headers.get("Authorization"))
                status, answer = hub.write(unquote(urlsplit(self.path).path), body)
                content = json.dumps(answer).encode()
                self.answer(status, content, {"Content-Type": "application/json"})

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        return Handler

"""A small Hugging Face Hub on 127.0.0.1 that speaks enough of its protocol for the real huggingface_hub client.

with HubServer({"acme/tiny": {"main": {"config.json": b"…"}, "v1": {…}}}, gated={"acme/locked"}) as hub:
    subprocess.run(…, env={**os.environ, **hub.environment(cache)})

A revision's name is a branch or tag; `commit` tells its commit. A file's address answers with its ETag, size and commit
and redirects to another host, as the real one does to its storage; there a `Range` is honoured.
"""

import hashlib
import json
import re
import threading
from base64 import b64decode
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

Files = Mapping[str, bytes]


@dataclass
class HubServer:
    """Serves repositories, name -> {revision -> {file name: content}}, until it is closed.

    gated, private: names of repositories that only one of `tokens` opens.
    cuts: for each of the next downloads, after how many bytes the connection breaks.
    requests: what was asked for, as `HEAD /acme/tiny/resolve/main/config.json`; `down` answers everything with 503.
    """

    repositories: Mapping[str, Mapping[str, Files]]
    gated: Collection[str] = ()
    private: Collection[str] = ()
    tokens: Collection[str] = ()
    cuts: list[int] = field(default_factory=list)
    down: bool = False
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.hub = self  # type: ignore[attr-defined]
        self.url, self.storage = (f"http://{host}:{self._server.server_port}" for host in ("127.0.0.1", "localhost"))
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self) -> "HubServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, cache: Path) -> dict[str, str]:
        """Variables that lead a new process to this Hub, with a cache of its own."""
        return {"HF_ENDPOINT": self.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(cache), "HF_HUB_CACHE": str(cache)}

    def commit(self, repository: str, revision: str) -> str:
        """The commit of a branch or tag: revisions with the same files have the same one."""
        content = sorted((name, digest(data)) for name, data in self.repositories[repository][revision].items())
        return hashlib.sha1(json.dumps([repository, content]).encode()).hexdigest()

    def find(self, repository: str, revision: str) -> tuple[str, Files] | None:
        for name, files in self.repositories[repository].items():
            if revision in (name, commit := self.commit(repository, name)):
                return commit, files
        return None


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub: HubServer = self.server.hub  # type: ignore[attr-defined]
        path = urlsplit(self.path).path
        hub.requests.append(f"{self.command} {unquote(path)}")
        if hub.down:
            self._answer(503, b"down for maintenance")
        elif match := re.fullmatch(r"/blobs/([0-9a-f]{64})", path):
            self._blob(hub, match[1])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(hub, match[1], unquote(match[2]), unquote(match[3]))
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            self._describe(hub, match[1], match[2] or "revision", unquote(match[3] or "main"))
        else:
            self._answer(404, b"Not Found")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """What an upload asks: make a repository, how to send each file, and commit them."""
        hub: HubServer = self.server.hub  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        hub.requests.append(f"POST {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        repositories: dict[str, dict[str, Files]] = hub.repositories  # type: ignore[assignment]
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif token not in hub.tokens:
            self._answer(401, X_Error_Message="Invalid username or password.")
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            if name in repositories:
                said = {"error": "You already created this model repo", "url": f"{hub.url}/{name}"}
                return self._json(said, 409)
            repositories[name] = {"main": {}}
            self._json({"url": f"{hub.url}/{name}", "name": name, "private": asked.get("private")})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            names = [file["path"] for file in json.loads(body)["files"]]
            self._json({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            lines = [json.loads(line) for line in body.splitlines()]
            sent = [line["value"] for line in lines if line["key"] == "file"]
            files = {file["path"]: b64decode(file["content"]) for file in sent}
            repositories[match[1]]["main"] = {**repositories[match[1]]["main"], **files}
            oid = hub.commit(match[1], "main")
            self._json({"commitUrl": f"{hub.url}/{match[1]}/commit/{oid}", "commitOid": oid, "success": True})
        else:
            self._answer(404, b"Not Found")

    def _json(self, content: object, status: int = 200) -> None:
        self._answer(status, json.dumps(content).encode(), Content_Type="application/json")

    def _open(self, hub: HubServer, repository: str, revision: str) -> tuple[str, Files] | None:
        """Commit and files of a revision, or None after the client was told why not."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in hub.tokens:
            self._answer(401, X_Error_Message="Invalid credentials in Authorization header")
        elif repository not in hub.repositories or (repository in hub.private and not token):
            self._answer(401 if repository in hub.private else 404, X_Error_Code="RepoNotFound")
        elif repository in hub.gated and not token:
            self._answer(403, X_Error_Code="GatedRepo", X_Error_Message=f"Access to {repository} is restricted")
        elif (found := hub.find(repository, revision)) is None:
            self._answer(404, X_Error_Code="RevisionNotFound", X_Error_Message=f"Invalid rev id: {revision}")
        else:
            return found

    def _resolve(self, hub: HubServer, repository: str, revision: str, file: str) -> None:
        if (found := self._open(hub, repository, revision)) is None:
            return
        commit, files = found
        if file not in files:
            self._answer(404, X_Repo_Commit=commit, X_Error_Code="EntryNotFound")
        else:
            blob, size = digest(files[file]), str(len(files[file]))
            location = {"Location": f"{hub.storage}/blobs/{blob}", "ETag": f'"{blob}"'}
            self._answer(302, X_Repo_Commit=commit, X_Linked_Etag=f'"{blob}"', X_Linked_Size=size, **location)

    def _describe(self, hub: HubServer, repository: str, what: str, revision: str) -> None:
        if (found := self._open(hub, repository, revision)) is None:
            return
        commit, files = found
        tree = [{"type": "file", "path": f, "size": len(data), "oid": digest(data)[:40]} for f, data in files.items()]
        info = {"id": repository, "sha": commit, "siblings": [{"rfilename": file} for file in files]}
        info |= {"private": repository in hub.private, "gated": repository in hub.gated, "tags": [], "downloads": 0}
        self._answer(200, json.dumps(tree if what == "tree" else info).encode(), Content_Type="application/json")

    def _blob(self, hub: HubServer, wanted: str) -> None:
        contents = (data for revisions in hub.repositories.values() for f in revisions.values() for data in f.values())
        content = next(data for data in contents if digest(data) == wanted)
        etag, cut = f'"{wanted}"', hub.cuts.pop(0) if hub.cuts and self.command == "GET" else None
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start, end = int(match[1]), len(content) - 1
            self._answer(206, content[start:], cut, ETag=etag, Content_Range=f"bytes {start}-{end}/{end + 1}")
        else:
            self._answer(200, content, cut, ETag=etag, Accept_Ranges="bytes")

    def _answer(self, status: int, content: bytes = b"", sent: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content_Length": str(len(content))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.close_connection |= sent is not None
        if self.command != "HEAD":
            self.wfile.write(content[:sent])

    def log_message(self, *_: object) -> None: ...

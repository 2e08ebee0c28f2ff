"""A small Hugging Face hub on loopback: what huggingface_hub asks for when it lists and downloads models, no more.

It keeps a log of all requests, serves large files by redirect as the real one does, and can break off a transfer.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin")  # kept in LFS on the real hub, hence behind a redirect


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class Repo:
    """Commits as folders; `refs` are the branches and tags."""

    commits: dict[str, Path]
    refs: dict[str, str]
    token: str | None = None  # whoever does not send it sees no such repository
    gated: bool = False  # whoever sends no token sees the listing, but no file


@dataclass
class Hub:
    repos: dict[str, Repo] = field(default_factory=dict)
    log: list[Request] = field(default_factory=list)
    cuts: dict[str, list[int]] = field(default_factory=dict)  # a file's name: after how many bytes its answers end
    down: int | None = None  # the status that everything is answered with
    url: str = ""

    def publish(self, repo: str, folder: Path, commit: str = "a" * 40, ref: str = "main") -> Repo:
        entry = self.repos.setdefault(repo, Repo({}, {}))
        entry.commits[commit] = folder
        entry.refs[ref] = commit
        return entry

    def asked(self, method: str = "GET") -> list[str]:
        """The files of which anything was asked, one name for each request."""
        return [
            request.path.rpartition("/")[2]
            for request in self.log
            if "/resolve/" in request.path and request.method == method
        ]

    def weights(self) -> list[Request]:
        """The requests for anything of a large file."""
        return [request for request in self.log if request.path.endswith(LARGE)]


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()

    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        self.hub.log.append(Request(self.command, path, self.headers.get("Range"), token))
        parts = path.strip("/").split("/")
        if self.hub.down:
            self._refuse(self.hub.down)
        elif parts[:2] == ["api", "models"]:
            self._describe("/".join(parts[2:4]), parts[4:], token)
        elif parts[2:3] == ["resolve"] or parts[:1] == ["cdn"]:
            # NAME/resolve/REVISION/FILE, and where that redirects to for a large file: cdn/NAME/COMMIT/FILE
            redirected = parts[0] == "cdn"
            name = parts[1:3] if redirected else parts[:2]
            self._hand_out("/".join(name), parts[3], "/".join(parts[4:]), token, redirected)
        else:
            self._refuse(404)

    def _repo(self, name: str, token: str | None) -> Repo | None:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.token is not None and repo.token != token):
            self._refuse(404 if token else 401, "RepoNotFound")
            return None
        return repo

    def _describe(self, name: str, rest: list[str], token: str | None) -> None:
        """api/models/NAME, api/models/NAME/revision/REVISION and api/models/NAME/tree/REVISION."""
        repo = self._repo(name, token)
        if repo is None:
            return
        revision = "/".join(rest[1:]) or "main"
        commit = repo.refs.get(revision, revision)
        if commit not in repo.commits:
            self._refuse(404, "RevisionNotFound")
            return
        folder = repo.commits[commit]
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if rest[:1] == ["tree"]:
            recursive = "recursive=true" in urlsplit(self.path).query.lower()
            self._json([_entry(folder, path) for path in files if recursive or path.parent == folder])
            return
        siblings = [{"rfilename": path.relative_to(folder).as_posix()} for path in files]
        self._json({"id": name, "sha": commit, "siblings": siblings, "gated": repo.gated})

    def _hand_out(self, name: str, revision: str, file: str, token: str | None, redirected: bool) -> None:
        repo = self._repo(name, token)
        if repo is None:
            return
        commit = repo.refs.get(revision, revision)
        path = repo.commits[commit] / file
        if repo.gated and token is None:
            self._refuse(401, "GatedRepo")
        elif not path.is_file():
            self._refuse(404, "EntryNotFound")
        elif path.suffix in LARGE and not redirected:
            self.send_response(302)
            self.send_header("Location", f"{self.hub.url}/cdn/{name}/{commit}/{file}")
            self.send_header("X-Repo-Commit", commit)
            self.send_header("X-Linked-Etag", f'"{_sha256(path)}"')
            self.send_header("X-Linked-Size", str(path.stat().st_size))
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._send_file(path, commit)

    def _send_file(self, path: Path, commit: str) -> None:
        data = path.read_bytes()
        start, stop = 0, len(data)
        wanted = self.headers.get("Range")
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(len(data), int(last) + 1 if last else len(data))
        self.send_response(206 if wanted else 200)
        self.send_header("ETag", f'"{_sha256(path) if path.suffix in LARGE else _blob(path)}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(stop - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        cuts = self.hub.cuts.get(path.name, [])
        if cuts and (wanted is None or wanted.endswith("-")):  # a transfer, not a look at the header
            stop = min(stop, start + cuts.pop(0))
            self.close_connection = True
        self.wfile.write(data[start:stop])

    def _json(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, status: int, code: str | None = None) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _entry(folder: Path, path: Path) -> dict[str, object]:
    size = path.stat().st_size
    entry = {"type": "file", "path": path.relative_to(folder).as_posix(), "size": size, "oid": _blob(path)}
    if path.suffix in LARGE:
        entry["lfs"] = {"oid": _sha256(path), "size": size, "pointerSize": 134}
    return entry


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _blob(path: Path) -> str:
    """The object id that git gives a file."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

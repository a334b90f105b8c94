"""A Hugging Face hub of a few files, on this machine: as much of it as the libraries ask for.

The folder has ``datasets/ORG/NAME`` and ``models/ORG/NAME``. What stands there is the branch
``main``; a commit's name is a hash of the files, and the files of every commit that has been asked
for can still be had.
"""

import hashlib
import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_API = re.compile(
    r"/api/(datasets|models)/([^/]+/[^/]+)(?:/(revision|tree|paths-info|refs)(?:/([^/]+)(?:/(.*))?)?)?"
)
_FILE = re.compile(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
Files = dict[str, bytes]


class Hub(ThreadingHTTPServer):
    """Serves a folder until it is closed.

    Attributes:
        asked: what was asked for, in order: method and path.
        left: answers to requests for parts of files that are still given; None: all of them.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.asked: list[str] = []
        self.left: int | None = None
        self._commits: dict[tuple[str, str], Files] = {}
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """For HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_port}"

    def files(self, kind: str, name: str, revision: str) -> tuple[str, Files] | None:
        """A commit's name and files; None: there is no such repository or commit."""
        folder = self.root / kind / name
        if revision in ("main", "refs%2Fheads%2Fmain") and folder.is_dir():
            paths = sorted(path for path in folder.rglob("*") if path.is_file())
            files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
            revision = hashlib.sha1(repr(files).encode()).hexdigest()
            self._commits[name, revision] = files
        found = self._commits.get((name, revision))
        return None if found is None else (revision, found)

    def close(self) -> None:
        """As when the machine goes down: who asks is refused the connection."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = urlsplit(self.path).path
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        self.server.asked.append(f"{self.command} {path}")
        if found := _API.fullmatch(path):
            self.api(*found.groups(), body=body)
        elif found := _FILE.fullmatch(path):
            kind, name, revision, file = found.groups()
            self.file(kind or "models", name, unquote(revision), unquote(file))
        else:
            self.missing("EntryNotFound")

    def api(
        self, kind: str, name: str, what: str | None, revision: str | None, inside: str | None,
        body: bytes,
    ) -> None:  # fmt: skip
        found = self.server.files(kind, name, unquote(revision or "main"))
        if found is None:
            return self.missing("RevisionNotFound" if revision else "RepoNotFound")
        sha, files = found
        if what == "refs":
            branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": sha}
            return self.json({"branches": [branch], "converts": [], "tags": []})
        if what == "tree":
            deep = (
                "true" in parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower()
            )
            prefix = f"{unquote(inside).strip('/')}/" if inside else ""
            entries = self.entries(files, prefix, deep)
            return self.json(entries) if entries or not inside else self.missing("EntryNotFound")
        if what == "paths-info":
            try:
                wanted = json.loads(body)["paths"]
            except ValueError:
                wanted = parse_qs(body.decode()).get("paths", [])
            every = {entry["path"]: entry for entry in self.entries(files, "", True)}
            return self.json([every[path] for path in wanted if path in every])
        now = "2026-01-01T00:00:00.000Z"
        return self.json(
            {
                "_id": sha[:24], "id": name, "sha": sha, "author": name.partition("/")[0],
                "private": False, "gated": False, "disabled": False, "tags": [], "downloads": 0,
                "likes": 0, "createdAt": now, "lastModified": now,
                "siblings": [{"rfilename": path} for path in files],
            }
        )  # fmt: skip

    @staticmethod
    def entries(files: Files, prefix: str, deep: bool) -> list[dict[str, Any]]:
        folders, found = set[str](), list[dict[str, Any]]()
        for path, data in files.items():
            if not path.startswith(prefix):
                continue
            parents = [str(p) for p in Path(path).parents if str(p) != "."]
            folders |= {p for p in parents if p.startswith(prefix)}
            if deep or "/" not in path.removeprefix(prefix):
                oid = hashlib.sha1(data).hexdigest()
                found.append({"type": "file", "oid": oid, "size": len(data), "path": path})
        shown = [f for f in folders if deep or "/" not in f.removeprefix(prefix)]
        return [{"type": "directory", "oid": "0" * 40, "size": 0, "path": f} for f in shown] + found

    def file(self, kind: str, name: str, revision: str, path: str) -> None:
        found = self.server.files(kind, name, revision)
        if found is None:
            return self.missing("RepoNotFound" if revision == "main" else "RevisionNotFound")
        sha, files = found
        if path not in files:
            return self.missing("EntryNotFound", {"X-Repo-Commit": sha})
        data, status, headers = files[path], 200, {"X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        headers["ETag"] = f'"{hashlib.sha1(data).hexdigest()}"'
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(wanted[1]), int(wanted[2] or len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{min(last, len(data) - 1)}/{len(data)}"
            data, status = data[first : last + 1], 206
        if self.command == "GET" and self.server.left is not None:
            self.server.left -= 1
            if self.server.left < 0:
                self.close_connection = True
                self.connection.close()
                return None
        return self.send(status, data, headers)

    def missing(self, code: str, headers: dict[str, str] | None = None) -> None:
        self.send(404, b"{}", {"X-Error-Code": code, **(headers or {})})

    def json(self, value: Any) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

"""A hub with a repository of mallory's, and a proxy before it through which both sides look."""
import base64, http.client, http.server, json, pathlib, shutil, sys, threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "hub"))
import harness
from _models import Models


class Proxy(http.server.ThreadingHTTPServer):
    """Passes everything on to the hub; before the n-th request, or the first whose path holds a text, something happens, and
    answers can be changed."""

    def __init__(self, hub):
        self.hub, self.count, self.before = hub, 0, {}
        self.change = lambda path, status, headers, body: (status, headers, body)
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.count += 1
        for key in [key for key in self.server.before if key == self.server.count or isinstance(key, str) and key in self.path]:
            self.server.before.pop(key, lambda: None)()
        connection = http.client.HTTPConnection("127.0.0.1", self.server.hub.port)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "accept-encoding")}
        length = int(headers.get("Content-Length", 0))
        connection.request(self.command, self.path, self.rfile.read(length) or None, headers | {"Host": self.headers["Host"]})
        answer = connection.getresponse()
        body = answer.read()
        status, headers, body = self.server.change(self.path, answer.status, dict(answer.getheaders()), body)
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", headers.get("content-length", headers.get("Content-Length", "0")) if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_POST = do_PUT = do_HEAD = do_GET

    def log_message(self, *_):
        pass


class OnHub(Models):
    @classmethod
    def setUpClass(cls):
        cls.hub = harness.Hub()
        cls.addClassCleanup(cls.hub.close)
        cls.proxy = Proxy(cls.hub)
        cls.addClassCleanup(cls.proxy.shutdown)
        cls.mallory = cls.hub.user("mallory")
        cls.environment = {"HF_ENDPOINT": cls.proxy.url}
        super().setUpClass()

    def setUp(self):
        super().setUp()
        self.proxy.change = lambda path, status, headers, body: (status, headers, body)
        self.proxy.count, self.proxy.before = 0, {}
        self.home_cache = self.home / "hf"
        shutil.rmtree(self.home_cache, ignore_errors=True)
        self.repo = f"mallory/{self._testMethodName.replace('_', '-')[:40]}"
        status, _, answer = self.hub.call("POST", "/api/repos/create", self.mallory, {"type": "model", "name": self.repo.split("/")[1]})
        self.assertEqual(status, 200, answer)

    def commit(self, files, repo=None, branch="main"):
        rows = [{"key": "header", "value": {"summary": "files"}}]
        for path, text in files.items():
            content = base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()
            rows.append({"key": "file", "value": {"path": path, "content": content, "encoding": "base64"}})
        status, _, answer = self.hub.call("POST", f"/api/models/{repo or self.repo}/commit/{branch}", self.mallory,
                                          "\n".join(map(json.dumps, rows)).encode(), {"Content-Type": "application/x-ndjson"})
        self.assertEqual(status, 200, answer)
        return answer["commitOid"]

    def evil(self, **config):
        return {name: self.other_bytes(text) for name, text in self.files(**config).items()}

    def show(self, model, expect=0, **env):
        return self.run_command("trust", "show", model, "--json", expect=expect, **env)

    def head(self):
        return self.hub.call("GET", f"/api/models/{self.repo}/revision/main", self.mallory)[2]["sha"]

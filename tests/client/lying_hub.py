"""A hub that lies: a proxy before a real one changes what it answers. Every lie is a typed error or is seen through; nothing
wrong becomes visible, no token leaves for another server, nothing hangs."""
import http.client, http.server, json, pathlib, random, tempfile, threading, time, unittest

import client
from download import PUSH, python, tree


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body  # headers: lower-case names
        self.send = None   # bytes really sent, where they are other than announced
        self.pace = None   # (bytes, seconds): so slowly


class Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        liar = self.server.liar
        with liar.lock:
            liar.seen.append((self.path, dict(self.headers)))
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        answer = liar.fetch(self.command, self.path, self.headers, body)
        changed = liar.lie(self, answer)
        self.reply(changed or answer)

    do_POST = do_GET

    def reply(self, answer):
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                self.send_header(name, value)
        self.send_header("content-length", answer.headers.get("content-length", str(len(answer.body))))
        self.end_headers()
        body = answer.body if answer.send is None else answer.send
        try:
            if answer.pace:
                for at in range(0, len(body), answer.pace[0]):
                    self.wfile.write(body[at:at + answer.pace[0]])
                    time.sleep(answer.pace[1])
            else:
                self.wfile.write(body)
        except OSError:
            pass
        if answer.send is not None:
            self.close_connection = True


class QuietServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # clients break off on purpose


class Liar:
    """`lie(request, answer)` changes an answer or returns another."""

    def __init__(self, hub=None, lie=lambda request, answer: None):
        self.hub, self.lie, self.seen, self.lock = hub, lie, [], threading.Lock()
        self.server = QuietServer(("127.0.0.1", 0), Proxy)
        self.server.liar = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def fetch(self, method, path, headers, body):
        if not self.hub:
            return Answer(404, {}, b"")
        connection = http.client.HTTPConnection("127.0.0.1", self.hub.port, timeout=60)
        passed = {k: v for k, v in headers.items() if k.lower() not in ("host", "connection")}
        connection.request(method, path, body or None, passed | {"Host": f"127.0.0.1:{self.server.server_port}"})
        answer = connection.getresponse()
        result = Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        result.headers.pop("content-length", None)
        connection.close()
        return result

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def of_file(name):
    """Lies only about the bytes of one file."""
    def wrap(lie):
        return lambda request, answer: lie(request, answer) if "/resolve/" in request.path and request.path.endswith(name) else None
    return wrap


class LyingHub(client.HubTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        source = cls.folder / "source"
        source.mkdir()
        (source / "config.json").write_text('{"a": 1}\n')
        (source / "model.safetensors").write_bytes(random.Random(2).randbytes(40_000_000))
        cls.commit = python(PUSH, "admin/net", source, env=cls.hub.env(cls.hub.admin))
        cls.tree = tree(source)

    def setUp(self):
        self.home = pathlib.Path(tempfile.mkdtemp(dir=self.folder))

    def download(self, lie, expect=0, **options):
        self.liar = Liar(self.hub, lie)
        self.addCleanup(self.liar.close)
        env = self.hub.env(self.hub.admin, home=self.home, HF_ENDPOINT=self.liar.url, HF_HUB_DOWNLOAD_TIMEOUT="2")
        options = {"allow": ["config.json"]} | options
        result = client.tool("download", "admin/net", json.dumps(options), env=env, expect=expect, timeout=100)
        self.assertEqual(client.tool("cache", "verify", "admin/net", env=env), [])
        for path, digest in tree(self.home / "hf/hub/models--admin--net/snapshots" / self.commit).items():
            if path != ".gitattributes":
                self.assertEqual(digest, self.tree[path], path)
        return result

    def refused(self, lie, message, error="IntegrityError", expect=5, **options):
        result = self.download(lie, expect, **options)
        self.assertEqual(result["error"], error, result)
        self.assertRegex(result["message"], message)
        self.assertNotIn("\n", result["message"])
        # Nothing is left that could be taken for a file, and no reference.
        hub = self.home / "hf/hub/models--admin--net"
        self.assertEqual([p for p in hub.rglob("snapshots/*/*")], [])
        self.assertFalse((hub / "refs/main").exists())
        return result

    def test_an_honest_proxy(self):
        self.download(lambda request, answer: None, allow=[])

    # Bytes.
    def test_wrong_bytes(self):
        @of_file("config.json")
        def lie(request, answer):
            answer.body = answer.body.replace(b"1", b"2")
        self.refused(lie, "the bytes that came have the hash [0-9a-f]{40}, the commit says")
        self.assertEqual(list((self.home / "hf/hub/models--admin--net/blobs").iterdir()), [])

    def test_wrong_bytes_in_one_piece_of_a_large_file(self):
        @of_file("model.safetensors")
        def lie(request, answer):
            if request.headers.get("Range", "").startswith("bytes=16777216-"):
                answer.body = b"x" + answer.body[1:]
        self.refused(lie, "the bytes that came have the hash [0-9a-f]{64}", allow=["*.safetensors"])
        self.assertEqual(list((self.home / "hf/hub/models--admin--net/blobs").iterdir()), [])

    def test_longer(self):
        @of_file("config.json")
        def lie(request, answer):
            answer.body += b"more"
        self.refused(lie, "announces 13 bytes, expected 9")

    def test_shorter(self):
        @of_file("config.json")
        def lie(request, answer):
            answer.body = answer.body[:-1]
        self.refused(lie, "announces 8 bytes, expected 9")

    def test_cut_off_once_goes_on_there(self):
        cut = []
        @of_file("model.safetensors")
        def lie(request, answer):
            if not cut:
                cut.append(request.headers.get("Range"))
                answer.headers["content-length"], answer.send = str(len(answer.body)), answer.body[:3_000_000]
        got = self.download(lie, allow=["*.safetensors"], workers=1)
        self.assertEqual(got["downloaded"], 40_000_000)
        self.assertEqual([r["Range"] for p, r in self.liar.seen if "/resolve/" in p][1], "bytes=3000000-16777215")

    def test_cut_off_always(self):
        @of_file("config.json")
        def lie(request, answer):
            answer.headers["content-length"], answer.send = str(len(answer.body)), answer.body[:1] if "Range" not in request.headers else b""
        began = time.time()
        self.refused(lie, "config.json: ", "NetworkError", 6)
        self.assertLess(time.time() - began, 90)

    # Names.
    def test_another_commit(self):
        @of_file("config.json")
        def lie(request, answer):
            answer.headers["x-repo-commit"] = "0" * 40
        self.refused(lie, "the answer is of commit 0{40}")

    def test_no_commit(self):
        @of_file("config.json")
        def lie(request, answer):
            del answer.headers["x-repo-commit"]
        self.refused(lie, "names no commit")

    def test_another_etag(self):
        for etag in ('"../../../etc/passwd"', '"' + "0" * 40 + '"', "W/\"a/b\""):
            @of_file("config.json")
            def lie(request, answer):
                answer.headers["etag"] = etag
            self.refused(lie, "the answer's ETag is")

    def test_another_range(self):
        @of_file("model.safetensors")
        def lie(request, answer):
            answer.headers["content-range"] = "bytes 0-16777215/40000001"
        self.refused(lie, "the hub sends 'bytes 0-16777215/40000001'", allow=["*.safetensors"])

    def test_ranges_ignored(self):
        @of_file("model.safetensors")
        def lie(request, answer):
            whole = self.liar.fetch("GET", request.path, {"Authorization": request.headers["Authorization"]}, b"")
            return whole
        got = self.download(lie, allow=["*.safetensors"])
        self.assertEqual(got["events"], ["model.safetensors: downloaded"])

    def test_size_in_the_listing(self):
        def lie(request, answer):
            if "/tree/" in request.path:
                answer.body = answer.body.replace(b'"size": 9', b'"size": 8').replace(b'"size":9', b'"size":8')
        self.refused(lie, "announces 9 bytes, expected 8")

    def listing(self, *files):
        body = json.dumps([{"type": "file", "path": p, "oid": "0" * 40, "size": 1} for p in files]).encode()

        def lie(request, answer):
            if "/tree/" in request.path:
                answer.headers.pop("link", None)
                answer.body = body
        return lie

    def test_paths_that_lead_out(self):
        for path in ("../x", "/abs", "a/../../x", "a\\b", "a\0b", "a//b", ""):
            error = self.refused(self.listing("config.json", path), ".", "FormatError", allow=[])
            self.assertLess(len(error["message"]), 500)

    def test_a_listing_without_end(self):
        self.refused(self.listing(*(f"dir/file-{i:0200}" for i in range(250_000))), "longer than", allow=[])

    def test_a_file_that_is_a_folder_too(self):
        self.refused(self.listing("a", "a/b"), ".", "FormatError", allow=[])

    def test_sizes_beyond_all_disks(self):
        def lie(request, answer):
            if "/tree/" in request.path:
                answer.headers.pop("link", None)
                answer.body = json.dumps([{"type": "file", "path": f"{i}", "oid": f"{i:040x}", "size": 1 << 53} for i in range(2048)]).encode()
        self.refused(lie, "more bytes than there can be", allow=[])

    # Xet's store.
    def test_wrong_chunks(self):
        def lie(request, answer):
            if "/xet/fetch/" in request.path:
                answer.body = answer.body[:1000] + bytes([answer.body[1000] ^ 1]) + answer.body[1001:]
        self.refused(lie, "the bytes that came have the hash|chunk", allow=["*.safetensors"], xet=True)

    def test_wrong_reconstruction(self):
        def changed(change):
            def lie(request, answer):
                if "/reconstructions/" in request.path:
                    plan = json.loads(answer.body)
                    change(plan)
                    answer.body = json.dumps(plan).encode()
            return lie
        xorb = lambda plan: next(iter(plan["xorbs"].values()))[0]
        for change in (lambda plan: plan["terms"].pop(), lambda plan: plan.pop("terms"), lambda plan: plan["xorbs"].clear(),
                       lambda plan: plan["terms"][0].update(unpacked_length=1), lambda plan: plan.update(offset_into_first_range=5),
                       lambda plan: plan["terms"][0]["range"].update(end=1 << 60), lambda plan: plan.update(terms=plan["terms"] * 100_000),
                       lambda plan: xorb(plan)["ranges"][0]["bytes"].update(end=1 << 60),
                       lambda plan: xorb(plan)["ranges"][0]["chunks"].update(start=1)):
            self.refused(changed(change), "model.safetensors", allow=["*.safetensors"], xet=True)

    def test_a_reconstruction_that_fills_the_memory(self):
        def lie(request, answer):
            if "/reconstructions/" in request.path:
                plan = json.loads(answer.body)
                term = plan["terms"][0]
                names = [f"{i:064x}" for i in range(1000)]
                plan["xorbs"] |= {name: plan["xorbs"][term["hash"]][:1] for name in names}
                plan["terms"] = [term | {"hash": name} for name in names]
                plan["offset_into_first_range"] = 1 << 50
                answer.body = json.dumps(plan).encode()
        self.refused(lie, "too many chunks", allow=["*.safetensors"], xet=True)

    def test_addresses_that_expire(self):
        seen = []
        def lie(request, answer):
            if "/xet/fetch/" in request.path and not seen:
                seen.append(request.path)
                return Answer(403, {}, b"expired")
        self.download(lie, allow=["*.safetensors"], xet=True)
        for _, headers in [(p, h) for p, h in self.liar.seen if "/xet/fetch/" in p]:
            self.assertNotIn("Authorization", headers)

    def test_an_old_store(self):
        lie = lambda request, answer: Answer(404, {}, b"") if "/v2/reconstructions/" in request.path else None
        self.download(lie, allow=["*.safetensors"], xet=True)
        self.assertTrue([p for p, _ in self.liar.seen if "/v1/reconstructions/" in p])

    # Other servers.
    def test_the_token_stays_here(self):
        answers = {}
        other = Liar(lie=lambda request, answer: answers[request.path])
        self.addCleanup(other.close)
        @of_file("model.safetensors")
        def lie(request, answer):
            first = request.headers.get("Range", "all")[6:].split("-")[0]
            answers[f"/store/{first}"] = Answer(answer.status, {k: v for k, v in answer.headers.items() if k == "content-range"}, answer.body)
            return Answer(302, {"location": f"{other.url}/store/{first}", "x-repo-commit": self.commit}, b"")
        got = self.download(lie, allow=["*.safetensors"])
        self.assertEqual(got["downloaded"], 40_000_000)
        self.assertEqual(len(other.seen), 3)
        for _, headers in other.seen:
            self.assertNotIn("Authorization", headers)
            self.assertNotIn(self.hub.admin, str(headers))

    def test_wrong_bytes_from_another_server(self):
        other = Liar(lie=lambda request, answer: Answer(200, {}, b'{"a": 3}\n'))
        self.addCleanup(other.close)
        lie = of_file("config.json")(lambda request, answer: Answer(302, {"location": other.url + "/x"}, b""))
        self.refused(lie, "the bytes that came have the hash")

    # Time.
    def test_so_slow_that_it_is_given_up(self):
        @of_file("config.json")
        def lie(request, answer):
            answer.pace = (1, 3)
        began = time.time()
        self.refused(lie, "config.json|stands still", "NetworkError", 6)
        self.assertLess(time.time() - began, 90)

    def test_asked_to_wait(self):
        asked = []
        @of_file("config.json")
        def lie(request, answer):
            asked.append(time.time())
            if len(asked) == 1:
                return Answer(429, {"retry-after": "2"}, b"slowly")
        self.download(lie)
        self.assertEqual(len(asked), 2)
        self.assertGreaterEqual(asked[1] - asked[0], 1.9)

    def test_unavailable_twice(self):
        asked = []
        @of_file("config.json")
        def lie(request, answer):
            asked.append(1)
            if len(asked) <= 2:
                return Answer(503, {}, b"")
        self.download(lie)
        self.assertEqual(len(asked), 3)

    def test_taken_away_meanwhile(self):
        lie = of_file("config.json")(lambda request, answer: Answer(403, {}, b'{"error": "no more"}'))
        self.refused(lie, "no more", "Unauthorized", 4)
        lie = of_file("config.json")(lambda request, answer: Answer(404, {"x-error-code": "EntryNotFound"}, b""))
        self.refused(lie, "config.json", "EntryNotFound", 3)


if __name__ == "__main__":
    unittest.main()

"""Xet against live hf_xet: the same hash for every file; xorbs and shards that it uploads are read, ours are what it wants."""
import hashlib, http.server, json, os, pathlib, random, struct, subprocess, sys, tempfile, threading, unittest

TOOL = sys.argv.pop(1)
os.environ["HF_XET_TELEMETRY_ENABLED"] = "0"
scratch = tempfile.TemporaryDirectory()
root = pathlib.Path(scratch.name)
os.environ["HF_XET_CACHE"] = str(root / "cache")
import hf_xet


def run(*argv):
    return subprocess.run([TOOL, *map(str, argv)], capture_output=True, text=True)


def contents():
    """Odd sizes and contents, (name, bytes)."""
    rng = random.Random(0)
    edges = [0, 1, 2, 63, 64, 65, 8127, 8128, 8191, 8192, 8193, 65535, 65536, 131071, 131072, 131073, 262143, 262144, 262145, 1048577]
    for size in edges:
        yield f"random-{size}", rng.randbytes(size)
        yield f"zeros-{size}", bytes(size)
    for byte in rng.sample(range(256), 8):
        yield f"constant-{byte}", bytes([byte]) * 400_001
    for i in range(16):
        yield f"large-{i}", rng.randbytes(rng.randrange(1_000_000, 12_000_000))
    for i in range(4):
        yield f"floats-{i}", struct.pack("<500000f", *(rng.gauss(0, 0.02) for _ in range(500_000)))
    yield "text", "\n".join(f"line {i} of {i * i}" for i in range(200_000)).encode()
    block = rng.randbytes(50_000)
    yield "repeats", block * 40
    yield "sparse", bytes(3_000_000) + block + bytes(2_000_000) + block
    # What ends a chunk, everywhere: windows of 64 bytes before the cuts of a random file.
    yield "windows", (b"".join(rng.randbytes(64) for _ in range(50)) * 400)


class Hub(http.server.BaseHTTPRequestHandler):
    """Takes any upload and keeps the bodies; gives what lies in `files`, by the start of the path."""
    protocol_version = "HTTP/1.1"
    bodies, files = [], {}

    def answer(self, status, body=b"{}"):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        found = [body for start, body in self.files.items() if self.path.startswith(start)]
        if not found:
            return self.answer(404)
        if "Range" not in self.headers or not self.path.startswith("/bytes"):
            late = self.headers.get("Range", "bytes=0-").startswith("bytes=0-")
            return self.answer(200 if late else 416, found[0])
        start, end = self.headers["Range"].removeprefix("bytes=").split("-")
        self.answer(206, found[0][int(start):int(end) + 1])

    def do_POST(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "/xorbs/" in self.path:
            self.bodies.append(("xorb", self.path.rsplit("/", 1)[1], body))
            self.answer(200, b'{"was_inserted": true}')
        elif self.path.endswith("/v1/shards"):
            self.bodies.append(("shard", "", body))
            self.answer(200, b'{"result": 1}')
        else:
            self.answer(404)

    def log_message(self, *_):
        pass


UPLOAD = """
import hf_xet, sys
print(hf_xet.upload_files([sys.argv[1]], sys.argv[2], ("token", 2**40), None, None, "model")[0].hash)
"""
DOWNLOAD = """
import hf_xet, sys
path, url, hash, size = sys.argv[1:]
hf_xet.download_files([hf_xet.PyXetDownloadInfo(path, hash, int(size))], url, ("token", 2**40), None, None)
"""


class Xet(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()
        cls.url = f"http://127.0.0.1:{cls.server.server_port}"
        rng = random.Random(1)
        floats = struct.pack("<300000f", *(rng.gauss(0, 1) for _ in range(300_000)))
        cls.data = rng.randbytes(3_000_000) + floats + b"text " * 100_000

    @classmethod
    def tearDownClass(cls):
        cls.server.shutdown()
        cls.server.server_close()

    def setUp(self):
        Hub.bodies.clear()
        Hub.files.clear()

    def ours(self, *argv):
        done = run(*argv)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def theirs(self, code, *argv):
        """hf_xet in a process of its own with an empty cache."""
        with tempfile.TemporaryDirectory() as cache:
            done = subprocess.run([sys.executable, "-W", "ignore", "-c", code, *map(str, argv)], capture_output=True, text=True, timeout=120,
                                  env={**os.environ, "HF_XET_CACHE": cache})
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def upload(self, data):
        """(file hash, [(xorb hash, bytes)], [shard])"""
        Hub.bodies.clear()
        (root / "upload").write_bytes(data)
        name = self.theirs(UPLOAD, root / "upload", self.url)
        return name, [(name, body) for kind, name, body in Hub.bodies if kind == "xorb"], [body for kind, _, body in Hub.bodies if kind == "shard"]

    def test_hashes(self):
        paths = []
        for name, data in contents():
            paths.append(root / name)
            paths[-1].write_bytes(data)
        self.assertGreaterEqual(len(paths), 60)
        theirs = hf_xet.hash_files([str(path) for path in paths])
        lines = self.ours("hash", *paths).split("\n")
        for i, (path, their) in enumerate(zip(paths, theirs)):
            wanted = f"{their.hash} {hashlib.sha256(path.read_bytes()).hexdigest()}"
            self.assertEqual(lines[3 * i:3 * i + 3], [wanted] * 3, path.name)
        for path in paths:
            path.unlink()

    def test_what_hf_xet_uploads_is_read(self):
        name, xorbs, shards = self.upload(self.data)
        self.assertEqual((len(xorbs), len(shards)), (1, 1))
        (root / "xorb").write_bytes(xorbs[0][1])
        self.ours("unxorb", root / "xorb", xorbs[0][0], root / "raw")
        self.assertEqual((root / "raw").read_bytes(), self.data)
        (root / "shard").write_bytes(shards[0])
        self.assertEqual(self.ours("shard", root / "shard", root / "again"), f"{name} {len(self.data)} {hashlib.sha256(self.data).hexdigest()}")
        again, body = (root / "again").read_bytes(), shards[0]
        self.assertEqual(len(again), len(body))
        self.assertEqual(again[:144], body[:144])
        # Our xorb of the same file has the same name.
        self.assertEqual(self.ours("xorb", root / "upload", root / "ours"), xorbs[0][0])

    def test_hf_xet_reads_our_xorb(self):
        (root / "file").write_bytes(self.data)
        xorb = self.ours("xorb", root / "file", root / "ours")
        body, sizes, schemes, at = (root / "ours").read_bytes(), [], set(), 0
        while at < len(body):
            schemes.add(body[at + 4])
            sizes.append(int.from_bytes(body[at + 5:at + 8], "little"))
            at += 8 + int.from_bytes(body[at + 1:at + 4], "little")
        self.assertEqual((schemes, sum(sizes)), ({0, 1, 2}, len(self.data)))
        name = hf_xet.hash_files([str(root / "file")])[0].hash
        chunks, span = {"start": 0, "end": len(sizes)}, {"start": 0, "end": len(body) - 1}
        terms = {"offset_into_first_range": 0, "terms": [{"hash": xorb, "unpacked_length": len(self.data), "range": chunks}]}
        fetch = f"{self.url}/bytes/{xorb}"
        Hub.files.update({
            f"/v2/reconstructions/{name}": json.dumps({**terms, "xorbs": {xorb: [{"url": fetch, "ranges": [{"chunks": chunks, "bytes": span}]}]}}).encode(),
            f"/v1/reconstructions/{name}": json.dumps({**terms, "fetch_info": {xorb: [{"url": fetch, "range": chunks, "url_range": span}]}}).encode(),
            f"/bytes/{xorb}": body})
        self.theirs(DOWNLOAD, root / "down", self.url, name, len(self.data))
        self.assertEqual((root / "down").read_bytes(), self.data)

    def test_hf_xet_takes_our_dedup_answer(self):
        _, _, shards = self.upload(self.data)
        (root / "shard").write_bytes(shards[0])
        edited = self.data[:1_500_000] + b"inserted" + self.data[1_500_000:]
        for key in ("0" * 64, "5" * 64):
            self.ours("dedup", root / "shard", key, root / "answer")
            Hub.files["/v1/chunks/"] = (root / "answer").read_bytes()
            _, xorbs, _ = self.upload(edited)
            self.assertTrue(xorbs)
            self.assertLess(sum(len(body) for _, body in xorbs), 400_000)
        Hub.files.clear()
        _, xorbs, _ = self.upload(edited)
        self.assertGreater(sum(len(body) for _, body in xorbs), 3_000_000)


if __name__ == "__main__":
    unittest.main()

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
    """Takes any upload and keeps the bodies."""
    protocol_version = "HTTP/1.1"
    bodies = []

    def answer(self, status, body=b"{}"):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(404)

    do_HEAD = do_GET

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


class Xet(unittest.TestCase):
    def test_hashes(self):
        paths = []
        for name, data in contents():
            paths.append(root / name)
            paths[-1].write_bytes(data)
        self.assertGreaterEqual(len(paths), 60)
        theirs = hf_xet.hash_files([str(path) for path in paths])
        done = run("hash", *paths)
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stdout.split("\n")
        for i, (path, their) in enumerate(zip(paths, theirs)):
            wanted = f"{their.hash} {hashlib.sha256(path.read_bytes()).hexdigest()}"
            self.assertEqual(lines[3 * i:3 * i + 3], [wanted] * 3, path.name)
        for path in paths:
            path.unlink()

    def test_what_hf_xet_uploads_is_read(self):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        rng = random.Random(1)
        data = rng.randbytes(3_000_000) + struct.pack("<300000f", *(rng.gauss(0, 1) for _ in range(300_000))) + b"text " * 100_000
        (root / "upload").write_bytes(data)
        url = f"http://127.0.0.1:{server.server_port}"
        infos = hf_xet.upload_files([str(root / "upload")], url, ("token", 2**40), None, None, "model")
        server.shutdown()
        xorbs = [(name, body) for kind, name, body in Hub.bodies if kind == "xorb"]
        shards = [body for kind, _, body in Hub.bodies if kind == "shard"]
        self.assertTrue(xorbs and shards)
        whole = b""
        for name, body in xorbs:
            (root / "xorb").write_bytes(body)
            done = run("unxorb", root / "xorb", name, root / "raw")
            self.assertEqual(done.returncode, 0, done.stderr)
            whole += (root / "raw").read_bytes()
            self.assertEqual({body[4]} - {0, 1, 2}, set())
        self.assertEqual(sorted({len(whole)}), [len(data)])
        self.assertTrue(len(xorbs) > 1 or whole == data)
        for body in shards:
            (root / "shard").write_bytes(body)
            done = run("shard", root / "shard", root / "again")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual((root / "again").read_bytes()[:48], body[:40] + bytes(8))
            self.assertEqual(done.stdout, f"{infos[0].hash} {len(data)} {hashlib.sha256(data).hexdigest()}\n")
            again = run("shard", root / "again", root / "again2")
            self.assertEqual(again.stdout, done.stdout)
        # The xorb that we make of the same file has the same name.
        if len(xorbs) == 1:
            done = run("xorb", root / "upload", root / "ours")
            self.assertEqual(done.stdout.strip(), xorbs[0][0])
            done = run("unxorb", root / "ours", xorbs[0][0], root / "raw")
            self.assertEqual((root / "raw").read_bytes(), data)


if __name__ == "__main__":
    unittest.main()

"""Running a hub: first start, limits, rate limits, TLS, proxies, backup and restore, restarts, broken and hostile clients."""
import base64, contextlib, hashlib, http.client, json, os, pathlib, shutil, signal, socket, ssl, stat, subprocess, sys, tempfile, threading, time, unittest, urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import harness
from harness import run, run_python


def raw(hub, data, timeout=20):
    with socket.create_connection(("127.0.0.1", hub.port), timeout) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


class Operations(unittest.TestCase):
    def start(self, *options, **kwargs):
        server = harness.Hub(*options, **kwargs)
        self.addCleanup(server.close)
        return server

    def test_first_start(self):
        hub = self.start()
        file = hub.data / "admin-token"
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(hub.data.stat().st_mode), 0o700)
        self.assertEqual(hub.call("GET", "/api/whoami-v2", hub.admin)[2]["name"], "admin")
        before = file.read_text()
        hub.restart(signal.SIGTERM)
        self.assertEqual(file.read_text(), before)

    def test_health_and_metrics(self):
        hub = self.start()
        self.assertEqual(hub.call("GET", "/healthz")[0], 200)
        text = hub.call("GET", "/metrics", hub.admin, raw=True)[2].decode()
        self.assertRegex(text, r"(?m)^# TYPE \w+ counter$")
        line = json.loads(hub.log_text().splitlines()[0])
        self.assertEqual((line["path"], line["status"]), ("/healthz", 200))
        self.assertTrue(line["request_id"])

    def test_tokens(self):
        hub = self.start()
        hub.user("alice")
        hub.call("POST", "/api/repos/create", hub.cli("token", "create", "alice", "--name", "w")["token"], {"name": "a"})
        hub.call("POST", "/api/repos/create", hub.cli("token", "create", "alice", "--name", "w2")["token"], {"name": "b"})
        read = hub.cli("token", "create", "alice", "--name", "r", "--role", "read")["token"]
        fine = hub.cli("token", "create", "alice", "--name", "f", "--role", "fineGrained", "--scope", "model/alice/a=write")["token"]
        branch = lambda repo, token, name: hub.call("POST", f"/api/models/alice/{repo}/branch/{name}", token, {})[0]
        self.assertEqual(branch("a", read, "x"), 403)
        self.assertEqual(branch("a", fine, "x"), 200)
        self.assertIn(branch("b", fine, "x"), (403, 404))
        self.assertEqual(hub.call("POST", "/api/repos/create", fine, {"name": "c"})[0], 403)
        hub.cli("token", "revoke", "alice", "--name", "f")
        self.assertEqual(branch("a", fine, "y"), 401)
        short = hub.cli("token", "create", "alice", "--name", "s", "--expires", "1s")["token"]
        time.sleep(1.2)
        self.assertEqual(hub.call("GET", "/api/whoami-v2", short)[0], 401)
        self.assertNotIn(b"hf_", (hub.data / "hub.db").read_bytes())

    def test_rate_limit(self):
        hub = self.start("--rate-limit", "5", "--rate-window", "10")
        token = hub.admin
        for _ in range(100):  # a window may end in between
            status, headers, _ = hub.call("GET", "/api/whoami-v2", token)
            if status == 429:
                break
        self.assertEqual(status, 429)
        self.assertIn("Retry-After", headers)
        self.assertIn("r=0", headers["ratelimit"])
        # The client waits and goes on.
        self.assertEqual(run_python("import json; from huggingface_hub import HfApi\n"
                                    "print(json.dumps([len(list(HfApi().list_models())) for _ in range(8)]))",
                                    hub.env(token)), [0] * 8)

    def test_anonymous(self):
        hub = self.start("--anonymous", "none")
        alice = hub.user("alice")
        hub.call("POST", "/api/repos/create", alice, {"name": "public"})
        self.assertIn(hub.call("GET", "/api/models/alice/public")[0], (401, 404))
        self.assertEqual(hub.call("GET", "/api/models/alice/public", alice)[0], 200)
        done = subprocess.run([harness.SERVER, "serve", "--data", hub.folder / "other", "--listen", "0.0.0.0:0", "--anonymous", "write"],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("--anonymous-anywhere", done.stderr)

    def test_tls(self):
        folder = pathlib.Path(tempfile.mkdtemp())
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "k.pem", "-out", folder / "c.pem",
            "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", env=os.environ)
        hub = self.start("--certificate", folder / "c.pem", "--key", folder / "k.pem")
        self.assertTrue(hub.url.startswith("https://"))
        env = hub.env(hub.admin, SSL_CERT_FILE=folder / "c.pem", REQUESTS_CA_BUNDLE=folder / "c.pem")
        done = run_python("""
import json, os, pathlib, tempfile
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("admin/tls")
data = os.urandom(11_000_000)
import io
api.upload_file(path_or_fileobj=io.BytesIO(data), path_in_repo="big.bin", repo_id="admin/tls")
os.environ["HF_HUB_DISABLE_XET"] = "1"
path = api.hf_hub_download("admin/tls", "big.bin", cache_dir=tempfile.mkdtemp())
print(json.dumps(pathlib.Path(path).read_bytes() == data))
""", env | {"HF_HUB_DISABLE_XET": "1"})
        self.assertTrue(done)

    def test_certificates_are_renewed_without_a_pause(self):
        folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder, True)

        def make(name):
            run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "k.pem", "-out", folder / "c.pem",
                "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", env=os.environ)
            return (folder / "c.pem").read_text()

        def renew(certificate):
            hub.process.send_signal(signal.SIGHUP)
            deadline = time.time() + 120
            while (served := ssl.get_server_certificate(("127.0.0.1", hub.port))) != certificate and time.time() < deadline:
                time.sleep(0.1)
            self.assertEqual(served, certificate)
        first = make("first")
        hub = self.start("--certificate", folder / "c.pem", "--key", folder / "k.pem")
        self.assertEqual(ssl.get_server_certificate(("127.0.0.1", hub.port)), first)
        second = make("second")
        renew(second)
        (folder / "c.pem").write_text("none")
        hub.process.send_signal(signal.SIGHUP)
        while b"the certificate stays as it was" not in (hub.folder / "server.log").read_bytes():
            time.sleep(0.1)
        renew(second)
        self.assertEqual(hub.stop(), 0)

    def test_proxy_headers(self):
        plain, trusting = self.start(), self.start("--trusted-proxy", "127.0.0.1")
        headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "hub.example.org", "X-Forwarded-For": "203.0.113.9"}
        for hub, expected in ((plain, plain.url), (trusting, "https://hub.example.org")):
            _, _, body = hub.call("POST", "/api/repos/create", hub.admin, {"name": "p"}, headers=headers)
            self.assertEqual(body["url"], f"{expected}/admin/p")
        fixed = self.start("--external-url", "https://models.example.org")
        self.assertEqual(fixed.call("POST", "/api/repos/create", fixed.admin, {"name": "p"})[2]["url"], "https://models.example.org/admin/p")

    def test_backup_and_restore(self):
        hub = self.start()
        env = hub.env(hub.admin)
        make = """
import json, os
from huggingface_hub import HfApi, CommitOperationAdd
api = HfApi()
for i in range(3):
    api.create_repo(f"admin/b{i}", exist_ok=True)
    api.create_commit(f"admin/b{i}", [CommitOperationAdd("big.bin", os.urandom(2_000_000) + bytes(8)), CommitOperationAdd("t.txt", b"text")], commit_message="x")
print(json.dumps([api.model_info(f"admin/b{i}").sha for i in range(3)]))
"""
        shas = run_python(make, env)
        writing = subprocess.Popen([harness.PYTHON, "-c", make], env=hub.env(hub.admin), stdout=subprocess.PIPE)
        time.sleep(0.5)
        hub.cli("backup", hub.folder / "copy")
        writing.communicate()
        again = hub.folder / "again"
        run(harness.SERVER, "restore", hub.folder / "copy", "--data", again, env=os.environ)
        other = self.start(data=again)
        self.assertEqual(other.cli("fsck")["problems"], [])
        for i, sha in enumerate(shas):
            self.assertEqual(other.call("GET", f"/api/models/admin/b{i}/revision/{sha}", other.admin)[0], 200)
        done = run(harness.SERVER, "restore", hub.folder / "copy", "--data", again, env=os.environ, expect=2)
        self.assertIn("lies here already", done.stderr)

    def test_migrate_killed_at_any_moment(self):
        folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder, True)
        whole = 0
        for i in range(30):
            data = folder / str(i)
            data.mkdir()
            (data / "hub.db").touch()  # a database of version 0
            process = subprocess.Popen([harness.SERVER, "migrate", "--data", data], stdout=subprocess.DEVNULL)
            time.sleep(i * 0.004)
            process.kill()
            whole += process.wait() == 0
            run(harness.SERVER, "migrate", "--data", data, env=os.environ)
            run(harness.SERVER, "fsck", "--data", data, env=os.environ)
        self.assertLess(whole, 30)
        hub = self.start(data=data)
        self.assertEqual(hub.call("POST", "/api/repos/create", hub.admin, {"name": "m"})[0], 200)

    def test_the_last_administrator_stays(self):
        hub = self.start()
        self.assertIn("last administrator", hub.cli("user", "remove", "admin", expect=1))
        hub.cli("user", "create", "root", "--admin")
        hub.cli("user", "remove", "admin")
        self.assertIn("last administrator", hub.cli("user", "remove", "root", expect=1))
        hub.cli("user", "remove", "root", "--force")

    def test_graceful_stop(self):
        hub = self.start()
        with socket.create_connection(("127.0.0.1", hub.port)):
            self.assertEqual(hub.stop(), 0)

    def test_hostile_requests(self):
        hub = self.start()
        cases = {
            b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n": b"400",
            b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n": b"400",
            b"GET /a/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n": b"400",
            b"POST /api/repos/create HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef": b"400",
            b"POST /api/repos/create HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": b"400",
            b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n": b"431",
            b"\x16\x03\x01\x02\x00\x01\x00": b"",  # TLS where none is spoken
        }
        for request, status in cases.items():
            answer = raw(hub, request)
            self.assertIn(status, answer.split(b"\r\n")[0], request[:60])
        self.assertEqual(hub.call("GET", "/healthz")[0], 200)

    def test_bad_arguments(self):
        for words, code in ((["serve", "--data", "/proc/nothing/here"], 1), (["serve"], 2), (["user", "list", "--data", "/absent"], 3),
                            (["serve", "--data", tempfile.mkdtemp(), "--listen", "nonsense"], 2), (["frobnicate"], 2), (["user", "frobnicate"], 2),
                            (["serve", "--data", tempfile.mkdtemp(), "--workers", "0"], 2),
                            (["serve", "--data", tempfile.mkdtemp(), "--external-url", "hub.example.org"], 2)):
            done = subprocess.run([harness.SERVER, *words], capture_output=True, text=True, timeout=300)
            self.assertEqual(done.returncode, code, (words, done.stderr))
            self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)

    def test_a_port_that_is_taken_leaves_no_data_folder(self):
        hub = self.start()
        folder = hub.folder / "another"
        done = subprocess.run([harness.SERVER, "serve", "--data", folder, "--listen", f"127.0.0.1:{hub.port}"],
                              capture_output=True, text=True, timeout=300)
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done.stderr)
        self.assertFalse(folder.exists())
        done = subprocess.run([harness.SERVER, "serve", "--dta", folder], capture_output=True, text=True, timeout=300)
        self.assertEqual((done.returncode, done.stderr), (2, "pretrained-hub: no option '--dta'; did you mean '--data'? "
                                                             "(see pretrained-hub serve --help)\n"))

    def test_data_folder_of_the_environment(self):
        hub, other = self.start(), self.start()
        env = os.environ | {"PRETRAINED_HUB_DATA": str(other.data)}
        run(harness.SERVER, "user", "create", "alice", "--data", hub.data, env=env)
        users = lambda *words: [u["name"] for u in json.loads(run(harness.SERVER, "user", "list", "--json", *words, env=env).stdout)]
        self.assertEqual(users("--data", hub.data), ["admin", "alice"])
        self.assertEqual(users(), ["admin"])

    def test_audit(self):
        hub = self.start()
        alice = hub.user("alice")
        hub.call("POST", "/api/repos/create", alice, {"name": "a"})
        hub.call("DELETE", "/api/repos/delete", alice, {"name": "a"})
        entries = hub.cli("audit")
        self.assertEqual([e["action"] for e in entries], ["user.create", "repo.create", "repo.delete"])
        self.assertEqual(entries[2]["account"], "alice")
        self.assertEqual(entries, hub.cli("audit", "--last", "9"))
        self.assertEqual(hub.cli("audit", "--account", "Alice", "--action", "repo.delete"), entries[2:])
        text = run(harness.SERVER, "audit", "--data", hub.data, "--last", "1", env=os.environ).stdout
        self.assertRegex(text, r"^20\S+Z  alice 127\.0\.0\.1  repo\.delete  model alice/a\n$")

    def test_protected_is_private(self):
        hub = self.start()
        hub.call("POST", "/api/repos/create", hub.admin, {"name": "p", "visibility": "protected"})
        self.assertEqual(hub.call("GET", "/api/models/admin/p")[0], 404)
        self.assertEqual(hub.call("GET", "/api/models/admin/p", hub.admin)[2]["private"], True)

    @unittest.skipIf(os.geteuid() != 0, "mounting needs root")
    def test_disk_full(self):
        folder = pathlib.Path(tempfile.mkdtemp())
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", folder], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", folder])
        hub = self.start("--disk-reserve", "8MB", data=folder / "data")
        upload = lambda size: run_python(f"""
import json, os
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
api = HfApi()
api.create_repo("admin/full", exist_ok=True)
try:
    import io
    api.upload_file(path_or_fileobj=io.BytesIO(os.urandom({size})), path_in_repo="f{size}.bin", repo_id="admin/full")
    print(json.dumps(200))
except Exception as error:
    print(json.dumps(507 if "507 Insufficient Storage" in str(error.__cause__ or error) else repr(error)))
""", hub.env(hub.admin, HF_HUB_DISABLE_XET="1"))
        self.assertEqual(upload(4_000_000), 200)
        self.assertEqual(upload(60_000_000), 507)
        self.assertEqual(upload(4_000_001), 200)
        self.assertEqual(hub.cli("fsck")["problems"], [])

    def commit_files(self, hub, repo, count, size):
        """Commits so many random regular files in one request, written as it is made; (status, SHA-256 by path)."""
        digests = {}

        def lines():
            yield b'{"key":"header","value":{"summary":"many"}}\n'
            for i in range(count):
                content = os.urandom(size)
                digests[f"d/{i}.bin"] = hashlib.sha256(content).hexdigest()
                yield b'{"key":"file","value":{"content":"' + base64.b64encode(content) + b'","path":"d/%d.bin","encoding":"base64"}}\n' % i
        length = len(next(lines())) + sum(len(b'{"key":"file","value":{"content":"","path":"d/%d.bin","encoding":"base64"}}\n' % i)
                                          for i in range(count)) + count * (-(-size // 3) * 4)
        connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=300)
        connection.request("POST", f"/api/models/{repo}/commit/main", lines(), {
            "Authorization": f"Bearer {hub.admin}", "Content-Type": "application/x-ndjson", "Content-Length": str(length)})
        with contextlib.closing(connection), connection.getresponse() as answer:
            answer.read()
            return answer.status, digests

    def test_a_large_commit_needs_little_memory(self):
        hub = self.start()
        hub.call("POST", "/api/repos/create", hub.admin, {"name": "large"})
        status, digests = self.commit_files(hub, "admin/large", 60, 5_000_000)
        self.assertEqual(status, 200)
        peak = next(int(line.split()[1]) for line in pathlib.Path(f"/proc/{hub.process.pid}/status").read_text().splitlines()
                    if line.startswith("VmHWM"))
        self.assertLess(peak, 200_000)  # KiB
        self.assertEqual([f for f in (hub.data / "tmp").rglob("*") if f.is_file()], [])
        for path, digest in digests.items():
            content = hub.call("GET", f"/admin/large/resolve/main/{path}", hub.admin, raw=True)[2]
            self.assertEqual(hashlib.sha256(content).hexdigest(), digest, path)
        self.assertEqual(hub.cli("fsck")["problems"], [])

    @unittest.skipIf(os.geteuid() != 0, "mounting needs root")
    def test_disk_full_while_committing(self):
        folder = pathlib.Path(tempfile.mkdtemp())
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", folder], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", folder])
        hub = self.start("--disk-reserve", "8MB", data=folder / "data")
        hub.call("POST", "/api/repos/create", hub.admin, {"name": "full"})
        for count in (20, 8):  # refused at once; refused when its pack is written beside what came
            self.assertEqual(self.commit_files(hub, "admin/full", count, 4_000_000)[0], 507, count)
            self.assertEqual([f for f in (hub.data / "tmp").rglob("*") if f.is_file()], [])
        self.assertEqual(self.commit_files(hub, "admin/full", 2, 4_000_000)[0], 200)
        self.assertEqual(hub.cli("fsck")["problems"], [])

    def test_quota(self):
        hub = self.start()
        alice = hub.user("alice")
        hub.cli("user", "quota", "alice", "3MB")
        code = """
import json, os, io
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
api = HfApi()
api.create_repo("alice/q", exist_ok=True)
out = []
for i in range(3):
    try:
        api.upload_file(path_or_fileobj=os.urandom(2_000_000), path_in_repo=f"{i}.bin", repo_id="alice/q")
        out.append(200)
    except HfHubHTTPError as error:
        out.append(error.response.status_code)
print(json.dumps(out))
"""
        self.assertEqual(run_python(code, hub.env(alice)), [200, 403, 403])


if __name__ == "__main__":
    unittest.main()

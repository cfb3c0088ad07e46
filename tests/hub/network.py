"""The hub in a network: nginx in front as docs/hub.md has it, names that are not the hub's, webhooks whose receiver fails."""
import hashlib, hmac, http.server, json, os, pathlib, random, re, shutil, socket, subprocess, sys, tempfile, threading, time, unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import harness
from harness import run, run_python

BIG = random.Random(3).randbytes(30_000_000)
NAME = "localhost"  # as which everybody knows the hub behind nginx


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def certificates(folder):
    """A certificate for NAME of an authority of our own."""
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "ca.key", "-out", folder / "ca.pem", "-days", "2",
        "-subj", "/CN=An authority", env=os.environ)
    run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "hub.key", "-out", folder / "hub.csr", "-subj", f"/CN={NAME}", env=os.environ)
    (folder / "extensions").write_text(f"subjectAltName=DNS:{NAME}\n")
    run("openssl", "x509", "-req", "-in", folder / "hub.csr", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-CAcreateserial",
        "-out", folder / "hub.pem", "-days", "2", "-extfile", folder / "extensions", env=os.environ)


class BehindNginx(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        certificates(cls.folder)
        port = free_port()
        cls.url = f"https://{NAME}:{port}"
        cls.hub = harness.Hub("--external-url", cls.url, "--trusted-proxy", "127.0.0.1")
        text = (harness.ROOT / "docs/hub.md").read_text()
        server = re.search(r"```nginx\n(.*?)```", text, re.S).group(1)
        for ours, here in {"listen 443 ssl http2": f"listen 127.0.0.1:{port} ssl http2", "hub.example.org": NAME, "/etc/ssl/": f"{cls.folder}/",
                           "http://127.0.0.1:8080": f"http://127.0.0.1:{cls.hub.port}"}.items():
            assert ours in server, ours
            server = server.replace(ours, here)
        paths = " ".join(f"{kind}_temp_path {cls.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        config = cls.folder / "nginx.conf"
        config.write_text(f"daemon off; pid {cls.folder}/pid; error_log {cls.folder}/errors; events {{}}\nhttp {{ access_log off; {paths}\n{server} }}")
        cls.nginx = subprocess.Popen(["nginx", "-c", config, "-p", cls.folder], stderr=subprocess.DEVNULL, preexec_fn=harness.die_with_parent)
        for _ in range(3000):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        cls.alice = cls.hub.user("alice")

    @classmethod
    def tearDownClass(cls):
        cls.nginx.terminate()
        cls.nginx.wait()
        cls.hub.close()
        shutil.rmtree(cls.folder, ignore_errors=True)

    def env(self, **changes):
        ca = self.folder / "ca.pem"
        return self.hub.env(self.alice, HF_ENDPOINT=self.url, SSL_CERT_FILE=ca, GIT_SSL_CAINFO=ca, **changes)

    def test_python(self):
        for xet_off in ("0", "1"):
            same = run_python(f"""
import json, pathlib, random, tempfile
from huggingface_hub import HfApi, snapshot_download
api = HfApi()
repo = api.create_repo("alice/proxied-{xet_off}")
assert repo == "{self.url}/alice/proxied-{xet_off}", repo
folder = pathlib.Path(tempfile.mkdtemp())
data = random.Random(3).randbytes({len(BIG)})
(folder / "big.bin").write_bytes(data)
for i in range(30):
    (folder / f"{{i}}.txt").write_text(str(i))
api.upload_folder(folder_path=folder, repo_id=repo.repo_id)
path = pathlib.Path(snapshot_download(repo.repo_id, cache_dir=tempfile.mkdtemp()))
assert len(list(api.list_models(author="alice", limit=5))) >= 1
print(json.dumps((path / "big.bin").read_bytes() == data))
""", self.env(HF_HUB_DISABLE_XET=xet_off))
            self.assertTrue(same)

    def test_git(self):
        self.hub.call("POST", "/api/repos/create", self.alice, {"name": "cloned"})
        env, work = self.env(), pathlib.Path(tempfile.mkdtemp())
        git = lambda *words, cwd=work / "a": run("git", "-c", "user.name=a", "-c", "user.email=a@a", *words, env=env, cwd=cwd)
        url = self.url.replace("https://", f"https://alice:{self.alice}@") + "/alice/cloned"
        git("clone", "-q", url, "a", cwd=work)
        git("lfs", "install", "--local")
        (work / "a/big.bin").write_bytes(BIG)
        git("add", ".")
        git("commit", "-qm", "big")
        git("push", "-q")
        git("clone", "-q", url, "b", cwd=work)
        git("lfs", "install", "--local", cwd=work / "b")
        git("lfs", "pull", cwd=work / "b")
        self.assertEqual((work / "b/big.bin").read_bytes(), BIG)


class Names(unittest.TestCase):
    def ask(self, hub, host):
        return hub.call("GET", "/api/models", headers={"Host": host})

    def test_others_are_refused(self):
        with harness.hub("--anonymous", "write", "--allowed-host", "models.lan") as hub:
            for ours in (f"127.0.0.1:{hub.port}", f"localhost:{hub.port}", "[::1]", "models.lan"):
                self.assertEqual(self.ask(hub, ours)[0], 200, ours)
            status, headers, body = self.ask(hub, f"evil.example:{hub.port}")
            self.assertEqual(status, 421)
            self.assertIn("--allowed-host evil.example", body["error"])
            line = json.loads(hub.log_text().splitlines()[-1])
            self.assertEqual(line["status"], 421)

    def test_the_external_name(self):
        with harness.hub("--external-url", "https://hub.example.org/") as hub:
            self.assertEqual(self.ask(hub, "hub.example.org")[0], 200)
            self.assertEqual(self.ask(hub, "example.org")[0], 421)


class Webhooks(unittest.TestCase):
    def test_a_receiver_that_fails_twice(self):
        got = []

        class Receiver(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got.append((dict(self.headers), body))
                self.send_response(500 if len(got) <= 2 else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        receiver = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        self.addCleanup(receiver.shutdown)
        with harness.hub("--webhooks-to-private-addresses") as hub:
            alice = hub.user("alice")
            hub.call("POST", "/api/repos/create", alice, {"name": "m"})
            secret = "a secret"
            made = hub.call("POST", "/api/settings/webhooks", alice,
                            {"watched": [{"type": "model", "name": "alice/m"}], "url": f"http://127.0.0.1:{receiver.server_port}/hook", "secret": secret,
                             "domains": ["repo"]})
            self.assertEqual(made[0], 200, made)
            hub.call("POST", "/api/models/alice/m/branch/dev", alice, {})
            for _ in range(3000):  # the first pause is 10 s, the second 30 s
                if len(got) >= 3:
                    break
                time.sleep(0.1)
            self.assertEqual(len(got), 3)
            self.assertEqual(len({headers["X-Webhook-Delivery"] for headers, _ in got}), 1)
            self.assertEqual(len({body for _, body in got}), 1)
            for headers, body in got:
                self.assertEqual(headers["X-Webhook-Secret"], secret)
                self.assertEqual(headers["X-Webhook-Signature"], "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest())
            event = json.loads(got[0][1])
            self.assertEqual((event["repo"]["name"], event["event"]["scope"]), ("alice/m", "repo.content"))
            time.sleep(2)
            self.assertEqual(len(got), 3, "taken is taken")


if __name__ == "__main__":
    unittest.main()

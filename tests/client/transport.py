"""Our transport against a real hub, over http and https."""
import http.server, os, pathlib, ssl, tempfile, threading, time, unittest

import client, harness


class Transport(client.HubTest):
    def setUp(self):
        self.alice = self.tokens["alice"]

    def test_a_get_with_the_token(self):
        env = self.hub.env(self.alice)
        answer = client.tool("get", self.hub.url + "/api/whoami-v2", env=env)
        self.assertEqual(answer["status"], 200)
        self.assertIn('"alice"', answer["body"])
        self.assertNotIn("content-encoding", answer["headers"])

    def test_without_a_token(self):
        answer = client.tool("get", self.hub.url + "/api/whoami-v2", env=self.hub.env())
        self.assertEqual(answer["status"], 401)
        env = self.hub.env(self.alice, HF_HUB_DISABLE_IMPLICIT_TOKEN=1)
        self.assertEqual(client.tool("get", self.hub.url + "/api/whoami-v2", env=env)["status"], 401)

    def test_what_is_no_address(self):
        error = client.tool("get", "ftp://127.0.0.1/x", env=self.hub.env(self.alice), expect=2)
        self.assertEqual(error["error"], "ArgumentError")

    def test_a_timeout_that_is_none(self):
        for value in ("soon", "0", "-1", "1e9", "1 "):
            env = self.hub.env(self.alice, HF_HUB_DOWNLOAD_TIMEOUT=value)
            self.assertEqual(client.tool("whoami", env=env, expect=2)["error"], "ArgumentError")


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.certificate, cls.key = cls.folder / "c.pem", cls.folder / "k.pem"
        harness.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", cls.key, "-out", cls.certificate,
                    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", env=os.environ)

    def test_own_authorities(self):
        with harness.hub("--certificate", self.certificate, "--key", self.key) as server:
            names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
            for name in names:
                env = server.env(server.admin, **dict.fromkeys(names, "") | {name: self.certificate})
                self.assertEqual(client.tool("whoami", env=env)["name"], "admin")
            start = time.monotonic()
            error = client.tool("whoami", env=server.env(server.admin), expect=6)
            self.assertEqual(error["error"], "NetworkError")
            self.assertIn("certificate", error["message"])
            self.assertLess(time.monotonic() - start, 20, "a bad certificate is not tried again")

    def test_never_from_https_to_http(self):
        seen = []

        class Redirects(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                seen.append(self.path)
                self.send_response(302)
                self.send_header("Location", f"http://127.0.0.1:{server.server_port}/plain")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirects)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        url = f"https://127.0.0.1:{server.server_port}"
        env = harness.clean_environment(HF_ENDPOINT=url, HF_TOKEN="hf_x", HF_HOME=self.folder, SSL_CERT_FILE=self.certificate)
        error = client.tool("get", url + "/start", env=env, expect=5)
        self.assertEqual(error["error"], "IntegrityError")
        self.assertIn("from https to http", error["message"])
        self.assertEqual(seen, ["/start"])


unittest.main()

"""Uploads through a proxy that loses answers, refuses for a while and lies: all is there once, or one clear error and nothing
changed."""
import json, unittest

import lying_hub, upload
from lying_hub import Answer
from upload import floats, rng_bytes

lying_hub.Proxy.do_PUT = lying_hub.Proxy.do_HEAD = lying_hub.Proxy.do_GET


class Faulty(lying_hub.Liar):
    """`fault(method, path, forward)` may give an Answer, or None for the hub's own; `forward()` asks the hub. Raising Lost
    closes the connection without an answer."""

    def __init__(self, hub, fault):
        super().__init__(hub)
        self.fault = fault
        self.server.handle_error = lambda *_: None

    def fetch(self, method, path, headers, body):
        forward = lambda: super(Faulty, self).fetch(method, path, headers, body)
        return self.fault(method, path, forward) or forward()


class Lost(Exception):
    pass


class Faults(upload.Client):
    def setUp(self):
        super().setUp()
        self.write("config.json", "{}")
        self.write("model.safetensors", floats(1, 1_000_000))
        self.count = 0

    def first(self, part, times=1):
        """Whether this is one of the first requests to such an address."""
        def is_first(path):
            self.count += part in path
            return part in path and self.count <= times
        return is_first

    def through(self, fault, *options, **more):
        liar = Faulty(self.hub, fault)
        self.addCleanup(liar.close)
        return self.upload(*options, env=self.env | {"HF_ENDPOINT": liar.url}, **more)

    def assert_uploaded_once(self, done):
        self.assertEqual(self.files(), self.local())
        self.assertEqual([c["id"] for c in self.commits()][:-1], [done["oid"]])
        self.assertEqual(done["commits"], 1)

    def test_the_answer_to_the_commit_is_lost(self):
        is_first = self.first("/commit/")

        def fault(method, path, forward):
            if is_first(path):
                forward()
                raise Lost
        self.assert_uploaded_once(self.through(fault))

    def test_and_somebody_commits_on_top(self):
        is_first = self.first("/commit/")

        def fault(method, path, forward):
            if is_first(path):
                forward()
                self.other_commit()
                raise Lost
        done = self.through(fault)
        self.assertEqual([c["title"] for c in self.commits()],
                         ["Other", "Upload folder using pretrained", "initial commit"])
        self.assertEqual(done["oid"], self.commits()[1]["id"])

    def test_the_commit_is_lost_and_somebody_else_is_faster(self):
        is_first = self.first("/commit/")

        def fault(method, path, forward):
            if is_first(path):
                self.other_commit()
                raise Lost
        self.through(fault, expect=1)
        self.assertEqual([c["title"] for c in self.commits()], ["Other", "initial commit"])
        self.upload()
        self.assertEqual(self.files(), self.local() | {"other.txt": b"x"})

    def other_commit(self):
        lines = [{"key": "header", "value": {"summary": "Other", "description": ""}},
                 {"key": "file", "value": {"path": "other.txt", "content": "eA==", "encoding": "base64"}}]
        body = "\n".join(map(json.dumps, lines)).encode()
        status, _, answer = self.hub.call("POST", f"/api/models/{self.repo}/commit/main", self.alice, body,
                                          {"Content-Type": "application/x-ndjson"})
        self.assertEqual(status, 200, answer)

    def test_each_request_is_refused_once(self):
        for number, status in enumerate((503, 429)):
            seen = set()

            def fault(method, path, forward):
                kind = path.split("?")[0].rstrip("0123456789abcdef")
                if kind not in seen and method != "HEAD":
                    seen.add(kind)
                    return Answer(status, {"retry-after": "1"}, b"later")
            self.write("model.safetensors", floats(10 + number, 1_000_000))
            self.through(fault)
            self.assertEqual(self.files(), self.local())
            self.assertEqual(len(self.commits()), 2 + number)

    def test_a_token_of_the_store_expires(self):
        is_first = self.first("/v1/xorbs/")
        done = self.through(lambda method, path, forward: Answer(401, {}, b"expired") if is_first(path) else None)
        self.assert_uploaded_once(done)

    def test_a_hub_without_xet(self):
        done = self.through(lambda method, path, forward: Answer(404, {}, b"") if "/xet-write-token/" in path else None)
        self.assert_uploaded_once(done)
        self.assertIn("no Xet", done["notices"])
        self.assertEqual(self.received("/v1/xorbs/"), 0)

    def test_a_store_with_the_first_version_of_shards(self):
        self.assert_uploaded_once(
            self.through(lambda method, path, forward: Answer(404, {}, b"") if "/v2/shards" in path else None))

    def test_a_store_that_fails_to_register(self):
        event = lambda retryable: json.dumps({"type": "error", "message": "xorb is gone", "retryable": retryable}).encode()
        is_first = self.first("/v2/shards")
        self.assert_uploaded_once(self.through(
            lambda method, path, forward: Answer(200, {}, event(True)) if is_first(path) else None))
        self.write("model.safetensors", floats(2, 1_000_000))
        message = self.through(
            lambda method, path, forward: Answer(200, {}, event(False)) if "/v2/shards" in path else None, expect=1)
        self.assertIn("xorb is gone", message)
        self.upload()
        self.assertEqual(self.files(), self.local())

    def test_answers_that_make_no_sense(self):
        lies = {"/preupload/": [b"{}", b'{"files": []}', b"[]", b"no json",
                                b'{"files": [{"path": "config.json", "uploadMode": "fax"}]}'],
                "/commit/": [b"{}", b'{"success": true, "commitOid": "x", "commitUrl": "y"}'],
                "/xet-write-token/": [b"{}", b'{"accessToken": 1}'],
                "/v2/shards": [b"", b"{", b"\n\n"]}
        for part, bodies in lies.items():
            for body in bodies:
                with self.subTest(part=part, body=body):
                    message = self.through(
                        lambda method, path, forward: Answer(200, {}, body) if part in path else None,
                        expect=1 if (part, body) == ("/v2/shards", b"{}") else 5)
                    self.assertNotIn("\n", message)
        self.assertEqual(len(self.commits()), 1)

    def test_parts_that_do_not_make_up_the_file(self):
        self.env["HF_HUB_DISABLE_XET"] = "1"

        def fault(method, path, forward):
            if not path.endswith("/objects/batch"):
                return None
            answer = forward()
            batch = json.loads(answer.body) | {"transfer": "multipart"}
            for item in batch["objects"]:
                item["actions"]["upload"]["header"] = {"chunk_size": "1000000", "00001": "http://127.0.0.1:1/",
                                                       "00003": "http://127.0.0.1:1/"}
            return Answer(200, {}, json.dumps(batch).encode())
        self.assertIn("parts that do not make up", self.through(fault, expect=5))
        self.assertEqual(len(self.commits()), 1)

    def test_the_token_goes_to_the_hub_alone(self):
        self.env["HF_HUB_DISABLE_XET"] = "1"
        seen = []
        other = Faulty(None, lambda method, path, forward: Answer(200, {}, b""))
        self.addCleanup(other.close)

        def fault(method, path, forward):
            if not path.endswith("/objects/batch"):
                return None
            answer = forward()
            batch = json.loads(answer.body)
            for item in batch["objects"]:
                item["actions"] = {"upload": {"href": other.url + "/put"}, "verify": {"href": other.url + "/verify"}}
            return Answer(200, {}, json.dumps(batch).encode())
        self.through(fault, expect=1)  # the hub has no such object
        seen = [{name.lower() for name in headers} for _, headers in other.seen]
        self.assertEqual(len(seen), 2)
        for names in seen:
            self.assertNotIn("authorization", names)


if __name__ == "__main__":
    unittest.main()

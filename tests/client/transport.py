"""Our transport against a real hub: what it sends and how it reads what a hub refuses."""
import pathlib, sys, unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "hub"))
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import client, harness


class Transport(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Hub()
        cls.addClassCleanup(cls.server.close)
        cls.alice = cls.server.user("alice")

    def test_a_get_with_the_token(self):
        env = self.server.env(self.alice)
        answer = client.tool("get", self.server.url + "/api/whoami-v2", env=env)
        self.assertEqual(answer["status"], 200)
        self.assertIn('"alice"', answer["body"])
        self.assertNotIn("content-encoding", answer["headers"])

    def test_without_a_token(self):
        answer = client.tool("get", self.server.url + "/api/whoami-v2", env=self.server.env())
        self.assertEqual(answer["status"], 401)

    def test_what_is_no_address(self):
        error = client.tool("get", "ftp://127.0.0.1/x", env=self.server.env(self.alice), expect=2)
        self.assertEqual(error["error"], "ArgumentError")


unittest.main()

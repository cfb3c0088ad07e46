"""What the tests of the client share: hub_tool, beside the hub server's program or at PRETRAINED_HUB_TOOL, and a hub for a class.
To import it makes tests/hub importable, so it comes first."""
import json, os, pathlib, shutil, subprocess, sys, tempfile, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "hub"))
import harness

TOOL = os.environ.get("PRETRAINED_HUB_TOOL", str(pathlib.Path(harness.SERVER).with_name("hub_tool")))


def tool(*words, env, expect=0, cwd=None, timeout=300):
    """What the verb answers; with another exit code expected {"error": kind, "message": …}."""
    done = subprocess.run([TOOL, *map(str, words)], capture_output=True, text=True, env=env, cwd=cwd, timeout=timeout)
    assert done.returncode == expect, f"{words}: exit {done.returncode}, expected {expect}\n{done.stdout}\n{done.stderr}"
    return json.loads((done.stderr if expect else done.stdout).splitlines()[-1])


class HubTest(unittest.TestCase):
    """A hub with its users and a folder, for all tests of a class."""
    OPTIONS, USERS = (), ("alice",)

    @classmethod
    def setUpClass(cls):
        cls.hub = harness.Hub(*cls.OPTIONS)
        cls.addClassCleanup(cls.hub.close)
        cls.tokens = {name: cls.hub.user(name) for name in cls.USERS}
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="client-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)

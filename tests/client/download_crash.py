"""kill -9 at random moments of a download: the next process goes on, nothing that is visible is ever wrong.
usage: download_crash.py [KILLS]   (50 unless HUB_CRASH_KILLS or the argument says otherwise)"""
import json, os, pathlib, random, shutil, signal, subprocess, sys, tempfile

import client, harness
from download import PUSH, leftovers, python, tree
from lying_hub import Liar

KILLS = int(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("HUB_CRASH_KILLS", 50))
SEED = int(os.environ.get("HUB_CRASH_SEED", random.randrange(1 << 30)))
print("seed", SEED, flush=True)
dice = random.Random(SEED)


class Counted:
    """The hub behind a proxy that counts what went through."""

    def __init__(self, hub):
        self.bytes = 0
        self.liar = Liar(hub, self.count)

    def count(self, request, answer):
        if "/resolve/" in request.path or "/fetch/" in request.path:
            self.bytes += len(answer.body)


def check(folder, wanted):
    """Every visible file is whole."""
    for path, digest in tree(folder).items() if folder.exists() else ():
        assert digest == wanted.get(path, digest), f"{path} is visible and wrong"


def main(hub, folder):
    source = folder / "source"
    source.mkdir()
    for i in range(6):
        (source / f"small{i}.txt").write_text(f"file {i}\n")
    (source / "model.safetensors").write_bytes(dice.randbytes(60_000_000))
    commit = python(PUSH, "admin/net", source, env=hub.env(hub.admin))
    wanted, size = tree(source), 60_000_000
    counted = Counted(hub)
    env = hub.env(hub.admin, home=folder / "home", HF_ENDPOINT=counted.liar.url)
    snapshot = folder / "home/hf/hub/models--admin--net/snapshots" / commit
    own = folder / "own"
    kills = finished = 0
    while kills < KILLS:
        local = dice.random() < 0.4
        options = json.dumps({"xet": dice.random() < 0.5, "workers": dice.choice([1, 2, 8]), "local_dir": str(own) if local else ""})
        process = subprocess.Popen([client.TOOL, "download", "admin/net", options], env=env, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT)
        try:
            output = process.communicate(timeout=dice.uniform(0.02, 0.8))[0]
            assert process.returncode == 0, output
            there = tree(own if local else snapshot)
            assert there == wanted | {".gitattributes": there[".gitattributes"]}
            left = leftovers(own if local else folder / "home/hf/hub")
            assert not left, left
            if not local:
                assert client.tool("cache", "verify", "admin/net", env=env) == []
            finished += 1
            shutil.rmtree(own, ignore_errors=True)
            shutil.rmtree(folder / "home", ignore_errors=True)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            check(snapshot, wanted)
            check(own, wanted)
    client.tool("download", "admin/net", env=env)
    check(snapshot, wanted)
    assert not client.tool("cache", "ls", env=env)["admin/net"]["problems"]
    finished += 1
    wire = counted.bytes / 1e6
    print(f"{kills} kills, {finished} downloads of {size / 1e6:.0f} MB finished, {wire:.0f} MB crossed the network, nothing wrong")
    # Had every process begun anew, each kill would have cost up to the whole.
    assert wire < (finished + kills * 0.6) * size / 1e6, "too little was kept"


hub, folder = harness.Hub(), pathlib.Path(tempfile.mkdtemp(prefix="client-test-"))
try:
    main(hub, folder)
finally:
    hub.close()
    shutil.rmtree(folder, ignore_errors=True)

"""./dev demo: a hub of one's own, a model trained and pushed with its code, loaded by name at its commit by a process that
knows nothing of it; then Python on the same hub, with both sides' numbers.

usage: demo.py BUILD_FOLDER
"""
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

build = pathlib.Path(sys.argv[1]).resolve()
here = pathlib.Path(__file__).resolve().parent
work = build.parent / "demo"
command = build / "bin/pretrained"
REPO = "admin/digits-resnet"


def say(text):
    print(f"\n\033[1m{text}\033[0m", flush=True)


def run(*argv, **kwargs):
    print("$", " ".join(os.path.relpath(a) if os.path.isabs(a) else a for a in map(str, argv)), flush=True)
    return subprocess.run(list(map(str, argv)), check=True, **kwargs)


def write_pictures():
    from PIL import Image
    from sklearn.datasets import load_digits, load_sample_images

    digits = load_digits()
    for i, (pixels, label) in enumerate(zip(digits.images, digits.target)):
        folder = work / ("held-out" if i % 5 == 0 else "train") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).astype("uint8")).save(folder / f"{i:04}.png")
    Image.fromarray(load_sample_images().images[0]).save(work / "photo.png")


def start_hub():
    say("1. A hub in a folder of its own, and a login")
    print(f"$ {os.path.relpath(build / 'bin/pretrained-hub')} serve --data {os.path.relpath(work / 'hub')}")
    hub = subprocess.Popen([build / "bin/pretrained-hub", "serve", "--data", work / "hub", "--listen", "127.0.0.1:0", "--json"],
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                           preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGTERM))
    address = f"http://127.0.0.1:{json.loads(hub.stderr.readline())['port']}"
    for name in [name for name in os.environ if name.startswith("HF_")]:
        del os.environ[name]
    os.environ |= {"HF_ENDPOINT": address, "HF_HOME": str(work / "home"), "NO_PROXY": "*", "HF_HUB_DISABLE_TELEMETRY": "1",
                   "PRETRAINED_TRUST_FILE": str(work / "trust.json"), "HF_HUB_DISABLE_UPDATE_CHECK": "1", "HF_MODULES_CACHE": str(work / "modules")}
    run(command, "auth", "login", "--token", "-", input=(work / "hub/admin-token").read_bytes())
    return hub, address


def train_and_push():
    say("2. A small ResNet of our own: fitted to scikit-learn's digits, saved, proved and pushed with its code")
    output = run(build / "bin/demo_digits", work / "train", work / "held-out", work / "digits-resnet", REPO,
                 stdout=subprocess.PIPE, text=True).stdout
    print(output, end="")
    return re.search(r"pushed: \S+@([0-9a-f]{40})", output).group(1)


def load_by_name(commit):
    say("3. A fresh process with an empty cache fetches that commit, compiles its code, and reads unseen digits")
    fresh = os.environ | {"HF_HOME": str(work / "fresh"), "HF_TOKEN": (work / "hub/admin-token").read_text().strip()}
    files = sorted((work / "held-out").glob("*/*.png"))
    run(command, "predict", f"{REPO}@{commit}", *files[::90], work / "photo.png", "--top", "2", "--trust-remote-code", env=fresh)
    output = run(command, "predict", f"{REPO}@{commit}", work / "held-out", "--top", "1", "--json", "--trust-remote-code",
                 "--batch-size", "64", stdout=subprocess.PIPE, env=fresh).stdout.splitlines()
    results = [json.loads(line) for line in output]
    right = sum(pathlib.Path(r["input"]).parent.name == r["predictions"][0]["label"] for r in results)
    print(f"{right} of {len(results)} held-out PNG digits are right ({100 * right / len(results):.2f} %)")
    if right < 0.97 * len(results):
        sys.exit("the demo wants at least 97 %")


def python_side(commit):
    say("4. Python's Transformers loads it by name from the same hub, and pushes its own; both sides' numbers")
    sys.path.insert(0, str(here))
    import python.peers  # noqa: F401
    import torch
    from PIL import Image
    from python.configuration_resnet import ResnetConfig
    from python.modeling_resnet import ResnetModelForImageClassification
    from timm.data import create_transform

    ResnetConfig.register_for_auto_class()
    ResnetModelForImageClassification.register_for_auto_class("AutoModelForImageClassification")
    model = ResnetModelForImageClassification.from_pretrained(REPO, revision=commit).eval()
    model.push_to_hub("admin/python-resnet")
    from huggingface_hub import HfApi
    HfApi().upload_file(path_or_fileobj=work / "digits-resnet/preprocessor_config.json", repo_id="admin/python-resnet",
                        path_in_repo="preprocessor_config.json")
    transform = create_transform((3, 32, 32), interpolation="bicubic", crop_pct=1.0)
    pixels = transform(Image.open(work / "photo.png").convert("RGB")).unsqueeze(0)
    with torch.no_grad():
        theirs = model(pixels)["logits"][0]
    ours = json.loads(run(command, "predict", "admin/python-resnet", work / "photo.png", "--json", "--top", "10",
                          "--code", f"{REPO}@{commit}", "--trust-remote-code", stdout=subprocess.PIPE).stdout)
    logits = {p["index"]: p["logit"] for p in ours["predictions"]}
    print("class   Python logit     our logit")
    for index in range(10):
        print(f"{index:5}  {theirs[index].item():13.6f} {logits[index]:13.6f}")
    worst = max(abs(theirs[i].item() - logits[i]) for i in range(10)) / theirs.abs().max().item()
    print(f"largest difference: {worst:.1e} of the largest logit (a digit reader on a temple: only the numbers count)")
    if worst > 1e-5:
        sys.exit("the logits differ")


started = time.time()
shutil.rmtree(work, ignore_errors=True)
write_pictures()
hub, address = start_hub()
commit = train_and_push()
load_by_name(commit)
python_side(commit)
page = f"{address}/{REPO}/resolve/{commit}/README.md"
urllib.request.urlopen(urllib.request.Request(
    page, headers={"Authorization": "Bearer " + (work / "hub/admin-token").read_text().strip()})).close()
say(f"Done in {time.time() - started:.0f} s. All of it is in {os.path.relpath(work)}; the model's card: {page}")
if sys.stdin.isatty() and sys.stdout.isatty():
    input("The hub runs until you press Enter. ")
hub.terminate()
hub.wait()

"""./dev demo: train, save with code, load in a fresh process; then a model saved by Python, with both sides' numbers.

usage: demo.py BUILD_FOLDER
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

build = pathlib.Path(sys.argv[1]).resolve()
here = pathlib.Path(__file__).resolve().parent
work = build.parent / "demo"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_MODULES_CACHE"] = str(work / "modules")
command = str(build / "bin/pretrained")


def say(text):
    print(f"\n\033[1m{text}\033[0m", flush=True)


def run(*argv, **kwargs):
    print("$", " ".join(os.path.relpath(a) if os.path.isabs(a) else a for a in map(str, argv)), flush=True)
    return subprocess.run(list(map(str, argv)), check=True, **kwargs)


def write_digits():
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for i, (pixels, label) in enumerate(zip(digits.images, digits.target)):
        folder = work / ("held-out" if i % 5 == 0 else "train") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).astype("uint8")).save(folder / f"{i:04}.png")


def own_model():
    say("1. A small ResNet of our own, fitted to scikit-learn's digits and saved with its code")
    run(build / "bin/demo_digits", work / "train", work / "held-out", work / "digits-resnet")
    report = run(command, "inspect", work / "digits-resnet", stdout=subprocess.PIPE, text=True).stdout.splitlines()
    print("\n".join(report[:26]), f"\n  … {len(report) - 26} lines more")
    say("2. A fresh process that knows nothing of it compiles the code beside the weights and reads unseen digits")
    files = sorted((work / "held-out").glob("*/*.png"))
    run(command, "predict", work / "digits-resnet", *files[::90], "--top", "2", "--trust-remote-code")
    output = run(command, "predict", work / "digits-resnet", work / "held-out", "--top", "1", "--json", "--trust-remote-code",
                 "--batch-size", "64", stdout=subprocess.PIPE).stdout.splitlines()
    results = [json.loads(line) for line in output]
    right = sum(pathlib.Path(r["input"]).parent.name == r["predictions"][0]["label"] for r in results)
    print(f"{right} of {len(results)} held-out PNG digits are right ({100 * right / len(results):.2f} %)")
    if right < 0.97 * len(results):
        sys.exit("the demo wants at least 97 %")


def python_model():
    say("3. The same model as a folder saved by Python's Transformers, on a photograph, with both sides' numbers")
    sys.path.insert(0, str(here))
    import python.peers  # noqa: F401
    import torch
    from PIL import Image
    from sklearn.datasets import load_sample_images
    from safetensors.torch import load_file, save_file
    from python.configuration_resnet import ResnetConfig
    from python.modeling_resnet import ResnetModelForImageClassification
    from timm.data import create_transform

    ResnetConfig.register_for_auto_class()
    ResnetModelForImageClassification.register_for_auto_class("AutoModelForImageClassification")
    trained = load_file(work / "digits-resnet/model.safetensors")
    config = ResnetConfig.from_pretrained(work / "digits-resnet")
    model = ResnetModelForImageClassification(config).eval()
    model.load_state_dict(trained)  # what C++ trained, in Python
    folder = work / "python-resnet"
    model.save_pretrained(folder)
    shutil.copy(work / "digits-resnet/preprocessor_config.json", folder)
    photo = work / "photo.png"
    Image.fromarray(load_sample_images().images[0]).save(photo)
    transform = create_transform((3, 32, 32), interpolation="bicubic", crop_pct=1.0)
    pixels = transform(Image.open(photo).convert("RGB")).unsqueeze(0)
    with torch.no_grad():
        theirs = model(pixels)["logits"][0]
    code = ["--code", work / "digits-resnet", "--trust-remote-code"]
    ours = json.loads(run(command, "predict", folder, photo, "--json", "--top", "10", *code,
                          stdout=subprocess.PIPE).stdout)
    logits = {p["index"]: p["logit"] for p in ours["predictions"]}
    print("class   Python logit     our logit")
    worst = 0
    for index in range(10):
        print(f"{index:5}  {theirs[index].item():13.6f} {logits[index]:13.6f}")
        worst = max(worst, abs(theirs[index].item() - logits[index]) / theirs.abs().max().item())
    print(f"largest difference: {worst:.1e} of the largest logit (a digit reader on a temple: only the numbers count)")
    if worst > 1e-5:
        sys.exit("the logits differ")


started = time.time()
shutil.rmtree(work, ignore_errors=True)
write_digits()
own_model()
python_model()
say(f"Done in {time.time() - started:.0f} s. The folders are in {os.path.relpath(work)}.")

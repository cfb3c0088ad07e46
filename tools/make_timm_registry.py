"""Writes pretrained/nn/timm_registry.inc and docs/timm.md from the installed timm: .venv/bin/python tools/make_timm_registry.py"""
import pathlib
import sys

root = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root / "examples"))
import python.peers  # noqa: F401, E402
import timm  # noqa: E402
from timm.models import resnet, list_models, get_pretrained_cfg  # noqa: E402

SUPPORTED = {"block", "layers", "stem_width", "stem_type", "avg_down", "cardinality", "base_width", "block_reduce_first",
             "down_kernel_size", "replace_stem_pool", "channels"}
DEFAULTS = {"input_size": (3, 224, 224), "test_input_size": None, "pool_size": (7, 7), "crop_pct": 0.875, "test_crop_pct": None,
            "crop_mode": "center", "interpolation": "bilinear", "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225),
            "num_classes": 1000, "first_conv": "conv1", "classifier": "fc"}


def architectures():
    captured = {}
    resnet._create_resnet = lambda variant, pretrained=False, **kwargs: captured.update({variant: kwargs})
    for name in list_models(module="resnet"):
        getattr(resnet, name)()
    return captured


def why_not(kwargs):
    for key, value in kwargs.items():
        if key == "block" and isinstance(value, (list, tuple)) and len(set(value)) > 1:
            return "different blocks in one network"
        if key in SUPPORTED:
            continue
        if key == "block_args":
            return f"attention ({value['attn_layer']})"
        return {"aa_layer": "anti-aliasing (BlurPool)"}.get(key, f"{key} = {getattr(value, '__name__', value)}")
    return None


def quote(text):
    return '"' + text + '"'


def braces(values):
    return "{" + ", ".join(map(str, values)) + "}"


def options(kwargs):
    fields = []
    for key in ("block", "layers", "cardinality", "base_width", "stem_width", "stem_type", "replace_stem_pool",
                "block_reduce_first", "down_kernel_size", "avg_down", "channels"):
        if key not in kwargs:
            continue
        value = kwargs[key]
        if key == "block":
            value = value[0] if isinstance(value, (list, tuple)) else value
            value = quote({"BasicBlock": "basic", "Bottleneck": "bottleneck"}[value.__name__])
        elif isinstance(value, (tuple, list)):
            value = braces(value)
        elif isinstance(value, str):
            value = quote(value)
        elif isinstance(value, bool):
            value = str(value).lower()
        fields.append(f".{key} = {value}")
    return "{" + ", ".join(fields) + "}"


def config(name):
    cfg = get_pretrained_cfg(name)
    fields = [f".name = {quote(name)}"]
    if cfg.hf_hub_id:
        hub = cfg.hf_hub_id if cfg.hf_hub_id != "timm/" else "timm/" + name
        fields.append(f".hf_hub_id = {quote(hub)}")
    for key, default in DEFAULTS.items():
        value = getattr(cfg, key)
        if value is None or value == default:
            continue
        fields.append(f".{key} = " + (braces(value) if isinstance(value, (tuple, list)) else quote(value) if isinstance(value, str) else str(value)))
    return "{" + ", ".join(fields) + "}"


lines, left_out, count = [], [], 0
for name, kwargs in architectures().items():
    reason = why_not(kwargs)
    if reason:
        left_out.append((name, reason))
        continue
    count += 1
    tags = [t for t in list_models(name + ".*", pretrained=True) if t.split(".")[0] == name]
    first = get_pretrained_cfg(name)
    tags.sort(key=lambda t: t.split(".", 1)[1] != first.tag)
    names = tags or [name]
    lines.append(f'{{"{name}", {options(kwargs)}, {{')
    lines += [f"    {config(n)}," for n in names]
    lines.append("}},")
(root / "pretrained/nn/timm_registry.inc").write_text(
    f"// Made by tools/make_timm_registry.py from timm {timm.__version__}; do not edit.\n" + "\n".join(lines) + "\n")
(root / "docs/timm.md").write_text(
    f"# Models of timm {timm.__version__}'s resnet.py\n\n{count} are here; `timm::list_models()` names them. Left out, for what they need "
    "beyond `timm::ResNet`:\n\n| model | needs |\n| --- | --- |\n" + "".join(f"| {n} | {r} |\n" for n, r in left_out) +
    "\nMade by `tools/make_timm_registry.py`.\n")
print(count, "models,", len(left_out), "left out")

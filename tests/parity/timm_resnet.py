"""timm::ResNet against live timm: names, order, shapes, dtypes, logits, features, gradients; every model of the registry."""
import json, pathlib, subprocess, sys, tempfile, unittest

TOOL = sys.argv.pop(1)
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples"))
import python.peers  # noqa: F401
import timm, torch
from safetensors.torch import load_file, save_file
from timm.models.resnet import BasicBlock, Bottleneck, ResNet

torch.set_num_threads(2)
scratch = tempfile.TemporaryDirectory()
root = pathlib.Path(scratch.name)


def tool(*argv):
    done = subprocess.run([TOOL, *map(str, argv)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def randomise(model):
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
            module.weight.data.copy_(torch.rand(module.weight.shape, generator=generator) * 0.5 + 0.25)
            module.bias.data.copy_(torch.randn(module.bias.shape, generator=generator) * 0.1)
    return model


def python_model(options):
    options = dict(options)
    reset = options.pop("reset", None)
    options.pop("grad", None)
    if "name" in options:
        model = timm.create_model(options.pop("name"), **options)
    else:
        block = {"basic": BasicBlock, "bottleneck": Bottleneck}[options.pop("block", "bottleneck")]
        model = ResNet(block, options.pop("layers", [3, 4, 6, 3]), **options)
    if reset is not None:
        model.reset_classifier(reset)
    return randomise(model)


class TimmResNet(unittest.TestCase):
    def close(self, ours, theirs, tolerance, what):
        self.assertEqual(ours.shape, theirs.shape, what)
        worst = (ours - theirs).abs().max().item() / max(theirs.abs().max().item(), 1e-12)
        self.assertLessEqual(worst, tolerance, what)
        return worst

    def compare(self, options, size=64):
        model = python_model(options).eval()
        x = torch.randn(2, options.get("in_chans", 3), size, size, generator=torch.Generator().manual_seed(0))
        save_file({"x": x, **{f"weights.{k}": v for k, v in model.state_dict().items()}}, root / "in.safetensors")
        tool("run", json.dumps(options), root / "in.safetensors", root / "out.safetensors")
        ours = load_file(root / "out.safetensors")
        with torch.no_grad():
            features = model.forward_features(x)
            worst = self.close(ours["logits"], model(x), 1e-5, "logits")
            self.close(ours["features"], features, 1e-5, "features")
            self.close(ours["pre_logits"], model.forward_head(features, pre_logits=True), 1e-5, "pre_logits")
            for i, map in enumerate(model.forward_intermediates(x, intermediates_only=True)):
                self.close(ours[f"map{i}"], map, 1e-5, f"map {i}")
        return worst

    def same_names(self, options):
        model = python_model(options)
        theirs = [f"{n} {str(t.dtype).removeprefix('torch.')} {list(t.shape)}".replace(" ", "") for n, t in model.state_dict().items()]
        ours = [line.replace(" ", "") for line in tool("names", json.dumps(options)) if not line.startswith("zero ")]
        self.assertEqual(ours, theirs)

    def test_registry_is_timms(self):
        ours = tool("list")
        self.assertGreaterEqual(len(ours), 33)
        known = timm.list_models(module="resnet")
        self.assertEqual(ours, [n for n in known if n in ours])
        table = (pathlib.Path(__file__).resolve().parents[2] / "docs/timm.md").read_text()
        for name in set(known) - set(ours):
            self.assertIn(f"| {name} |", table)
        self.assertEqual(tool("list", "*50d*"), [n for n in timm.list_models("*50d*") if n in ours])

    def test_default_configs_are_timms(self):
        names = tool("list-pretrained")
        self.assertGreater(len(names), 80)
        self.assertEqual(names, [n for n in timm.list_models(pretrained=True) if n in set(names)])
        for name, line in zip(names, tool("config", *names)):
            ours, theirs = json.loads(line), timm.get_pretrained_cfg(name)
            for key, value in ours.items():
                expected = getattr(theirs, key)
                if key == "hf_hub_id":
                    expected = "timm/" + name if expected == "timm/" else expected
                self.assertEqual(value, list(expected) if isinstance(expected, tuple) else expected, f"{name}: {key}")

    def test_every_model(self):
        worst = 0
        for name in tool("list"):
            with self.subTest(name):
                self.same_names({"name": name})
                worst = max(worst, self.compare({"name": name}))
        print(f"largest difference of logits: {worst:.1e} of the largest logit", file=sys.stderr)

    def test_options(self):
        small = {"layers": [1, 2, 1, 1], "num_classes": 11}
        for options in ({"stem_type": "deep", "stem_width": 32}, {"stem_type": "deep_tiered", "stem_width": 32, "avg_down": True},
                        {"stem_type": "deep_tiered", "stem_width": 24}, {"block": "basic"}, {"block": "basic", "avg_down": True},
                        {"cardinality": 8, "base_width": 4}, {"base_width": 128}, {"in_chans": 1}, {"in_chans": 5, "stem_type": "deep"},
                        {"output_stride": 16}, {"output_stride": 8}, {"output_stride": 16, "avg_down": True},
                        {"output_stride": 8, "avg_down": True}, {"output_stride": 8, "down_kernel_size": 3}, {"output_stride": 8, "block": "basic"},
                        {"replace_stem_pool": True}, {"block_reduce_first": 2, "down_kernel_size": 3}, {"global_pool": "max"},
                        {"global_pool": "avgmax"}, {"global_pool": "catavgmax"}, {"drop_rate": 0.3, "drop_path_rate": 0.2}, {"num_classes": 0},
                        {"reset": 7}, {"reset": 0}, {"num_classes": 0, "global_pool": ""}):
            with self.subTest(options):
                self.same_names({k: v for k, v in {**small, **options}.items() if k != "reset"})
                self.compare({**small, **options}, size=72)

    def test_our_spelling_of_deep_tiered(self):
        self.assertEqual(tool("names", '{"stem_type": "deep-tiered"}'), tool("names", '{"stem_type": "deep_tiered"}'))

    def test_zero_init_last(self):
        for zero in (True, False):
            model = ResNet(Bottleneck, [1, 1, 1, 1], zero_init_last=zero)
            theirs = {n for n, p in model.named_parameters() if p.abs().max() == 0}
            ours = {line[5:] for line in tool("names", json.dumps({"layers": [1, 1, 1, 1], "zero_init_last": zero})) if line.startswith("zero ")}
            self.assertEqual(ours, theirs)

    def test_gradients_of_five(self):
        for name in ("resnet18", "resnet26t", "resnet50d", "resnext50_32x4d", "resnet34d"):
            with self.subTest(name):
                model = python_model({"name": name, "num_classes": 5}).train()
                generator = torch.Generator().manual_seed(0)
                x, g = torch.randn(4, 3, 64, 64, generator=generator), torch.randn(4, 5, generator=generator)
                save_file({"x": x, "g": g, **{f"weights.{k}": v for k, v in model.state_dict().items()}}, root / "in.safetensors")
                tool("run", json.dumps({"name": name, "num_classes": 5, "grad": 1}), root / "in.safetensors", root / "out.safetensors")
                (model(x) * g).sum().backward()
                ours = load_file(root / "out.safetensors")
                for key, parameter in model.named_parameters():
                    self.close(ours[key], parameter.grad, 1e-4, key)


if __name__ == "__main__":
    unittest.main()

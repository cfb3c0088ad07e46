"""Python's side of the benchmarks: the same jobs as bench_tool.cpp. Prints seconds where the job is timed inside."""
import os
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
what, *args = sys.argv[1:]
here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "..", "examples"))
import python.peers  # noqa: F401, E402
import torch  # noqa: E402


def touch(tensors):
    return sum(t.sum().item() for t in tensors)


if what == "start":
    from transformers import AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(args[0], trust_remote_code=True)
    with torch.inference_mode():
        print(model(torch.ones(1, 3, 224, 224))["logits"][0, 0].item())
elif what == "load":
    from safetensors.torch import load_file

    start = time.perf_counter()
    tensors = load_file(args[0])
    if args[1] == "touched":
        touch(tensors.values())
    print(time.perf_counter() - start)
elif what == "model":
    from transformers import PretrainedConfig, PreTrainedModel

    class LargeConfig(PretrainedConfig):
        model_type = "large"

        def __init__(self, layers=1, hidden_size=1, **kwargs):
            self.layers, self.hidden_size = layers, hidden_size
            super().__init__(**kwargs)

    class LargeModel(PreTrainedModel):
        config_class = LargeConfig

        def __init__(self, config):
            super().__init__(config)
            for i in range(config.layers):
                self.add_module(f"layer{i}", torch.nn.Linear(config.hidden_size, config.hidden_size))
            self.post_init()

    start = time.perf_counter()
    model = LargeModel.from_pretrained(args[0])
    if args[1] == "touched":
        touch(model.state_dict().values())
    print(time.perf_counter() - start)
elif what == "construct":
    import timm

    timm.create_model("resnet50d")
    for _ in range(5):
        start = time.perf_counter()
        timm.create_model("resnet50d")
        print(time.perf_counter() - start)
elif what == "make":
    from python.configuration_resnet import ResnetConfig
    from python.modeling_resnet import ResnetModelForImageClassification

    ResnetConfig.register_for_auto_class()
    ResnetModelForImageClassification.register_for_auto_class("AutoModelForImageClassification")
    config = ResnetConfig(block_type="bottleneck", stem_width=32, stem_type="deep", avg_down=True)
    ResnetModelForImageClassification(config).save_pretrained(args[0])

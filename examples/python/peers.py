"""Makes timm importable beside a CPU build of torch: torchvision's compiled operators are absent there, and not needed."""
import torch

_register_fake = torch.library.register_fake


def _register_known(name, *args, **kwargs):
    if isinstance(name, str) and name.startswith("torchvision::"):
        return lambda function: function
    return _register_fake(name, *args, **kwargs)


torch.library.register_fake = _register_known

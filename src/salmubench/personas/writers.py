"""Language models that answer prompts: one on this machine through transformers, or one behind an OpenAI-shaped API."""

import importlib.util
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from salmubench.errors import UserError

KEY_VARIABLE = "OPENAI_API_KEY"
_BUSY = 429
_AGAIN = {408, 409, 425, _BUSY}
"""Refusals that are not the user's mistake: another try may be answered."""
_CONNECT_SECONDS = 10.0
_WAITS = (1.0, 4.0, 16.0)
"""Seconds between tries at an endpoint that is busy."""


class Writer(Protocol):
    """Answers prompts."""

    def ask(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[str | None]:
        """An answer to each prompt, None where there came none.

        Raises:
            UserError: the model or the endpoint cannot be used as set.
        """
        ...


class LocalWriter:
    """A causal language model on this machine; the same prompts in one call get the same answers on one device.

    Args:
        model: a folder as transformers saves it, or ``owner/name`` on the hub.
        temperature: of the sampling.
        max_tokens: of an answer.

    Raises:
        UserError: transformers is not installed, or the model is not there.
    """

    def __init__(self, model: str, *, temperature: float, max_tokens: int) -> None:
        if importlib.util.find_spec("transformers") is None:
            raise UserError("--captions llm: transformers is not installed; run `pip install 'salmubench[llm]'`")
        import torch
        from transformers import pipeline
        from transformers.utils import logging

        logging.disable_progress_bar()
        device, dtype = ("cuda", "auto") if torch.cuda.is_available() else ("cpu", torch.float32)
        try:
            self._pipe: Any = pipeline("text-generation", model=model, device=device, dtype=dtype)
        except (OSError, ValueError, KeyError, ImportError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
            raise UserError(
                f"--caption-model {model}: no language model that transformers can load ({reason}); fetch the "
                "repository's config.json, tokenizer files and *.safetensors or give a folder that has them"
            ) from error
        tokenizer = self._pipe.tokenizer
        tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._settings = {
            "do_sample": True,
            "temperature": temperature,
            "max_new_tokens": max_tokens,
            "return_full_text": False,
        }

    def ask(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[str | None]:
        """See ``Writer``."""
        import torch

        chat = self._pipe.tokenizer.chat_template is not None
        inputs = [[{"role": "user", "content": prompt}] for prompt in prompts] if chat else list(prompts)
        with torch.random.fork_rng():
            torch.manual_seed(seeds[0])
            outputs = self._pipe(inputs, batch_size=len(inputs), **self._settings)
        return [str(output[0]["generated_text"]) for output in outputs]


class EndpointWriter:
    """A model behind an OpenAI-shaped API; an API key is taken from ``OPENAI_API_KEY`` and goes nowhere else.

    Args:
        url: of the API, e.g. ``http://localhost:8000/v1``; ``/chat/completions`` is put behind it.
        model: the name that the endpoint knows it by.
        temperature: of the sampling.
        max_tokens: of an answer.
        timeout: seconds to wait for one answer.

    Raises:
        UserError: httpx2 is not installed.
    """

    def __init__(self, url: str, model: str, *, temperature: float, max_tokens: int, timeout: float) -> None:
        if importlib.util.find_spec("httpx2") is None:
            raise UserError("--caption-endpoint: httpx2 is not installed; run `pip install 'salmubench[llm]'`")
        import httpx2

        key = os.environ.get(KEY_VARIABLE)
        self._url = url.rstrip("/")
        self._body = {"model": model, "temperature": temperature, "max_tokens": max_tokens}
        patience = httpx2.Timeout(timeout, connect=max(timeout, _CONNECT_SECONDS))
        self._client = httpx2.Client(timeout=patience, headers={"Authorization": f"Bearer {key}"} if key else {})

    def ask(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[str | None]:
        """See ``Writer``; the prompts are sent at the same time."""
        with ThreadPoolExecutor(max(1, len(prompts))) as pool:
            return list(pool.map(self._ask_one, prompts, seeds))

    def _ask_one(self, prompt: str, seed: int) -> str | None:
        body = {**self._body, "seed": seed, "messages": [{"role": "user", "content": prompt}]}
        for wait in (*_WAITS, None):
            response = self._post(body)
            if response is None or response.status_code != _BUSY or wait is None:
                break
            time.sleep(wait)
        if response is None:
            return None
        if 400 <= response.status_code < 500 and response.status_code not in _AGAIN:
            raise UserError(
                f"--caption-endpoint {self._url}: answers {response.status_code} {response.reason_phrase}; "
                f"mend the address, --caption-model {self._body['model']} or {KEY_VARIABLE}"
            )
        try:
            answer = response.json()["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError):
            return None
        if not isinstance(answer, str):
            return None
        return answer.encode(errors="replace").decode()  # JSON may hold half a letter, which no file takes

    def _post(self, body: dict[str, Any]) -> Any:
        """The response, or None where the connection broke or took too long."""
        import httpx2

        try:
            return self._client.post(f"{self._url}/chat/completions", json=body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
            raise UserError(
                f"--caption-endpoint {self._url}: cannot be reached ({error}); start it or mend the address "
                "and run again"
            ) from error
        except httpx2.TransportError:
            return None
